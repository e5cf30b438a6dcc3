"""Word lists for the generated citation network. None of its papers, authors or organizations is real."""

from __future__ import annotations

ADJECTIVES = """Adaptive Approximate Bounded Calibrated Compact Contrastive Distributed Efficient Explainable
Fault-Tolerant Federated Flexible Hierarchical Incremental Interactive Lightweight Modular Multi-Scale Online
Parallel Probabilistic Provable Robust Sample-Efficient Scalable Self-Supervised Sparse Streaming Unified""".split()


def _field(methods: str, problems: str, venues: str, keywords: str) -> dict[str, list[str]]:
    return {"methods": methods.split("|"), "problems": problems.split("|"), "venues": venues.split("|"),
            "keywords": keywords.split("|")}  # fmt: skip


FIELDS = {
    "vision": _field(
        "Feature Pyramids|Image Transformers|Scene Graphs|Depth Priors|Shape Descriptors|Optical Flow Networks",
        "Crowd Counting|Pose Estimation|Satellite Imagery|Medical Segmentation|Face Anti-Spoofing|Video Retrieval|"
        "Defect Inspection|Lane Detection",
        "Conference on Visual Understanding|Journal of Image Analysis|Symposium on Scene Perception",
        "segmentation|object detection|image retrieval|depth estimation|video|face recognition|augmentation|tracking",
    ),
    "language": _field(
        "Sequence Labelling|Attention Models|Language Priors|Phrase Tables|Prompt Ensembles|Entity Graphs",
        "Machine Translation|Question Answering|Dialogue Summaries|Relation Extraction|Speech Transcripts|"
        "Legal Documents|Rumour Verification|Code Comments",
        "Meeting on Computational Language|Transactions on Text Processing|Workshop on Low-Resource Languages",
        "translation|parsing|dialogue|named entities|summarization|question answering|morphology|sentiment",
    ),
    "graphs": _field(
        "Graph Convolutions|Random Walks|Spectral Clustering|Message Passing|Subgraph Sampling|Link Predictors",
        "Traffic Forecasting|Community Detection|Molecule Screening|Knowledge Completion|Fraud Detection|"
        "Citation Recommendation|Power Grids|Epidemic Spread",
        "Conference on Networked Data|Journal of Graph Mining|Symposium on Relational Learning",
        "graph neural networks|clustering|link prediction|embedding|random walks|heterogeneous graphs|motifs|traffic",
    ),
    "security": _field(
        "Intrusion Models|Trusted Enclaves|Zero-Knowledge Proofs|Malware Signatures|Key Exchange|Access Policies",
        "Cloud Storage|Vehicle Networks|Smart Contracts|Mobile Payments|Firmware Updates|Electronic Voting|"
        "Medical Records|Industrial Control",
        "Symposium on Systems Security|Transactions on Applied Cryptography|Conference on Privacy Engineering",
        "privacy|authentication|malware|blockchain|trusted execution|anomaly detection|cryptography|side channels",
    ),
    "robotics": _field(
        "Motion Primitives|Sliding Mode Control|Grasp Planners|Visual Servoing|Belief Maps|Trajectory Optimization",
        "Warehouse Picking|Drone Swarms|Surgical Assistance|Legged Locomotion|Underwater Mapping|Fruit Harvesting|"
        "Cooperative Transport|Rehabilitation Devices",
        "Conference on Autonomous Machines|Journal of Robot Control|Workshop on Field Robotics",
        "motion planning|control|manipulation|localization|drones|human-robot interaction|simulation|grasping",
    ),
    "systems": _field(
        "Cache Policies|Consensus Protocols|Query Optimizers|Task Schedulers|Memory Tiering|Log Replication",
        "Edge Computing|Serverless Functions|Stream Processing|Genome Pipelines|Time Series Stores|Web Search|"
        "Training Clusters|Sensor Gateways",
        "Symposium on Large Systems|Transactions on Data Infrastructure|Conference on Cloud Operations",
        "scheduling|storage|consensus|indexing|edge computing|query processing|energy|replication",
    ),
    "learning": _field(
        "Policy Gradients|Kernel Machines|Bandit Algorithms|Density Ratio Estimators|Boosted Trees|Bayesian Networks",
        "Recommender Systems|Clinical Trials|Credit Scoring|Energy Markets|Game Playing|Weather Nowcasting|"
        "Student Modelling|Concept Drift",
        "Conference on Statistical Learning|Journal of Decision Making|Workshop on Learning Theory",
        "reinforcement learning|bandits|generalization|kernels|causality|fairness|uncertainty|transfer learning",
    ),
    "interaction": _field(
        "Eye Tracking Studies|Visual Analytics|Haptic Interfaces|Voice Agents|Gesture Vocabularies|Citizen Surveys",
        "Remote Teaching|Museum Guides|Elderly Care|Air Traffic Control|Collaborative Writing|Public Displays|"
        "Emergency Response|Virtual Rehearsals",
        "Conference on Interactive Technology|Transactions on Human Factors|Symposium on Digital Accessibility",
        "user study|visualization|accessibility|virtual reality|eye tracking|education|haptics|voice",
    ),
}
"""Field -> the methods, problems, venues and keywords of its papers."""
_TOWNS = """Arden Brackwater Corvale Dornfeld Elmstead Fenwick Glanmoor Highmere Inverlea Jarrow Kestermont Lindenau
Montclair Norwick Ostrava Penhallow Quimby Ravensburg Selwyn Trevanion Ulvik Vantaa Wexcombe Yarmouth""".split()
ORGANIZATIONS = [
    *(f"University of {town}" for town in _TOWNS),
    *(f"{town} Institute of Technology" for town in _TOWNS),
    *(f"{town} Research Labs" for town in _TOWNS[:12]),
]
OPENINGS = ["We study", "This paper revisits", "We present a new approach to", "Little is known about"]
CLAIMS = [
    "Experiments show clear gains over strong baselines.",
    "We prove a bound and confirm it in practice.",
    "The code and data are described in full.",
    "A study with practitioners supports the design.",
]
