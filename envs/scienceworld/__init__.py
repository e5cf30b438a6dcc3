"""ScienceWorld: do elementary-school science in a simulated house."""
