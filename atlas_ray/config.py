"""The configuration: one model per stage, composed into `PipelineConfig`; a YAML file plus dotted overrides.

A default that is the paper's says its section. Nothing here is a secret: keys are named by their environment
variables. What is left out on purpose: logging and Ray's own settings (use Ray's environment variables).
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from atlas_ray.errors import ConfigError

Method = Literal["llm", "perplexity", "value", "random", "non_critical", "all", "hybrid"]


class Section(BaseModel):
    """Base of every section: closed to unknown options, documented field by field."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class EngineConfig(Section):
    """vLLM engines for evaluation and perplexity."""

    dtype: str = "auto"
    """`auto` takes bf16 on GPUs and fp32 on CPUs (bf16 is emulated, 4-17x slower, without AVX512-BF16)."""
    max_model_len: int = Field(4096, gt=0)
    """Context in tokens; AgentGym evaluates with 4,096."""
    max_num_seqs: int = Field(64, gt=0)
    """Sequences that an engine batches at a time."""
    replicas: int = Field(1, gt=0)
    """Engines per model."""
    tensor_parallel: int = Field(1, gt=0)
    """GPUs per engine."""
    gpu_memory_utilization: float = Field(0.9, gt=0, le=1)
    """Share of a GPU's memory for weights and cache."""
    cpu_kv_cache_gib: int = Field(2, gt=0)
    """Cache of a CPU engine in GiB."""


class RolloutConfig(Section):
    """Environment servers: where and how long episodes are played. Nothing here changes what an episode is."""

    servers: int = Field(1, gt=0)
    """Environment servers (Ray actors), over the whole cluster."""
    slots: int = Field(32, gt=0)
    """Episodes under way in one server; of an environment with a process of its own, as many as its memory holds."""
    cpus: float = Field(1.0, ge=0)
    """CPUs that Ray reserves for a server."""
    memory_gib: float = Field(2.0, gt=0)
    """Memory that Ray reserves for a server; one that outgrows it is replaced once its episodes are done."""
    recycle_after: int = Field(5000, gt=0)
    """Episodes after which a server is replaced, so that no engine leaks for ever."""
    deadline_s: float = Field(900.0, gt=0)
    """Seconds per episode."""
    call_deadline_s: float = Field(240.0, gt=0)
    """Seconds per call of an environment; a longer one ends its episode with an error."""
    labels: dict[str, str] = Field(default_factory=dict)
    """Only nodes with these Ray labels hold servers."""


class EndpointConfig(Section):
    """An OpenAI-compatible endpoint that plays in a model's place."""

    base_url: str
    """As in `https://api.openai.com/v1`."""
    model: str
    """The model's name there."""
    api_key_env: str = "OPENAI_API_KEY"
    """Name of the environment variable that holds the key."""
    concurrency: int = Field(32, gt=0)
    """Requests under way per environment server."""
    timeout_s: float = Field(120.0, gt=0)
    """Seconds until a request is given up and tried again."""
    max_retries: int = Field(8, ge=0)
    """Tries after the first for 429, 5xx, timeouts and broken connections; Retry-After is honoured."""


class CollectConfig(Section):
    """Where the expert trajectories come from."""

    source: str = "expert"
    """`expert` lets each environment's expert play training tasks; else a path or glob of files: AgentTraj-L, chat
    messages (OpenAI's or ShareGPT's shape) or the Agent Data Protocol, as a JSON list or JSON Lines."""
    trajectories: dict[str, int] = Field(default_factory=dict)
    """Number of training tasks per environment; with an import, at most so many (none named: all)."""
    min_score: float | None = Field(None, ge=0, le=1)
    """Expert episodes below this score are dropped, and counted in the manifest; None keeps the successful ones."""


class LlmSelectorConfig(Section):
    """The selector model of method `llm` (paper section 3.2), any OpenAI-compatible endpoint."""

    model: str | None = None
    """None: `gpt-4o` (paper section 4.2) at OpenAI; elsewhere the only model that the endpoint lists."""
    base_url: str | None = None
    """None: `OPENAI_BASE_URL`; if neither that nor the key is set, the on-board model serves locally."""
    api_key_env: str = "OPENAI_API_KEY"
    """Name of the environment variable that holds the key."""
    max_tokens: int = Field(1024, gt=0)
    """Length of an answer in tokens."""
    temperature: float = Field(0.0, ge=0)
    """Sampling temperature."""
    concurrency: int = Field(32, gt=0)
    """Requests under way at a time, over the whole cluster."""
    requests_per_minute: int | None = Field(None, gt=0)
    """Cluster-wide limit; None leaves it to the endpoint's 429 answers."""
    tokens_per_minute: int | None = Field(None, gt=0)
    """Cluster-wide limit of prompt tokens (estimated) and `max_tokens` together; None: none."""
    budget_usd: float | None = Field(None, gt=0)
    """Nothing is asked that could bring what this run directory has paid above it; the answers so far are kept."""
    timeout_s: float = Field(120.0, gt=0)
    """Seconds until a request is given up and tried again."""
    max_retries: int = Field(10, ge=0)
    """Tries after the first for 429, 5xx, timeouts and broken connections; Retry-After is honoured."""
    max_prompt_chars: int = Field(400_000, gt=0)
    """Longer trajectories have the middle of their observations elided, never a step dropped."""
    prices: dict[str, tuple[float, float]] = {"gpt-4o": (2.5, 10.0), "gpt-4o-mini": (0.15, 0.6)}
    """USD per million prompt and completion tokens by model, or by the beginning of its name; list prices by default,
    which change: check them before a large run."""


class PerplexityConfig(Section):
    """Method `perplexity` (paper Appendix B.2)."""

    reference_model: str | None = None
    """None: the score is the perplexity under the base model. A model, as `model` takes it (a tuned checkpoint's
    directory): the score is the mean negative log-likelihood under the base model minus that under this one."""


class HybridConfig(Section):
    """Method `hybrid`: ranks of other selections, fused (section 7 of the paper asks for combinations)."""

    weights: dict[Method, float] = {"llm": 1.0, "perplexity": 1.0}
    """Weight of each selection, above 0; they are run first."""

    @field_validator("weights")
    @classmethod
    def _usable(cls, weights: dict[Method, float]) -> dict[Method, float]:
        if not weights or "hybrid" in weights or not all(0 < weight < math.inf for weight in weights.values()):
            raise ValueError("name one or more other methods, each with a weight above 0")
        return weights


class ValueConfig(Section):
    """Method `value` (paper section 4.5.4, Appendix B.3): rollouts fork off before every expert step.

    They play as `evaluate` says (length of a reply, calls per step, when to give up), but sample.
    """

    model: str | None = None
    """Who plays the rollouts, named as in `evaluate.models`; None: the model that tuning starts from."""
    rollouts: int = Field(5, gt=1)
    """N, from every step (paper section 4.5.4)."""
    gamma: float = Field(0.99, ge=0, le=1)
    """Discount of equation (9) (paper Appendix B.3)."""
    threshold: float = Field(0.1, ge=0)
    """A step is critical when the value rises by more (paper Appendix B.3)."""
    absolute: bool = False
    """A fall counts as much as a rise."""
    estimate: Literal["discounted", "mean"] = "discounted"
    """`discounted`: equations (6)-(9) as printed; `mean`: the mean reward of the rollouts alone."""
    temperature: float = Field(1.0, ge=0)
    """Sampling temperature."""
    adaptive: bool = False
    """Stop sampling a step once its difference is decided either way (not in the paper)."""
    confidence: float = Field(0.95, gt=0.5, lt=1)
    """Of such a decision."""


class SelectConfig(Section):
    """Which steps are critical."""

    methods: tuple[Method, ...] = ("llm",)
    """Selection methods to run."""
    ratio: float = Field(0.3, gt=0, le=1)
    """At most this share of a trajectory's steps, at least one (paper section 4.2)."""
    llm: LlmSelectorConfig = LlmSelectorConfig()
    perplexity: PerplexityConfig = PerplexityConfig()
    hybrid: HybridConfig = HybridConfig()
    value: ValueConfig = ValueConfig()
    complement_of: Method = "llm"
    """The selection whose complement `non_critical` draws from (paper section 4.5.1)."""


class WarmupConfig(Section):
    """All steps of some trajectories, for a base model that does not know the format (not in the paper).

    These trajectories are kept apart from the tuning set.
    """

    fraction: float = Field(0.5, gt=0, lt=1)
    """Share of each environment's trajectories."""
    epochs: int = Field(1, gt=0)
    learning_rate: float = Field(1e-4, gt=0)
    batch_size: int = Field(4, gt=0)
    """Trajectories per optimizer step."""


class ExactConfig(Section):
    """Work that cannot change the gradient, and so is not done. Unset: left out where that is exact, with a word on
    why where it is not; true: refuse to train where it is not exact; false: do the work."""

    head_at_labels: bool | None = None
    """Logits and cross-entropy at the positions that predict a label, no others."""
    truncate: bool | None = None
    """End each trajectory with its last label."""
    pack: bool | None = None
    """Trajectories end to end in a row; off: one a row."""
    prefix_tree: bool | None = None
    """Trajectories that begin alike share the row and the work of their common beginning."""
    sparse_last_layer: bool | None = None
    """The last layer's queries and MLP at the positions that predict a label (Llama, Qwen2, Qwen3, Mistral)."""


class LoraConfig(Section):
    """Low-rank adapters on every linear layer but the head, instead of all weights (not in the paper)."""

    rank: int = Field(16, gt=0)
    alpha: int = Field(32, gt=0)
    """The adapter's output is scaled by alpha / rank."""


class TrainConfig(Section):
    """Fine-tuning on critical steps alone (paper Appendix B.1)."""

    selections: tuple[Method, ...] = ("llm",)
    """One checkpoint for each of these selections."""
    epochs: int = Field(3, gt=0)
    """Paper Appendix B.1."""
    learning_rate: float = Field(2e-5, gt=0)
    """Peak, paper Appendix B.1."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Of AdamW."""
    weight_decay: float = Field(0.0, ge=0)
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    """Paper Appendix B.1."""
    warmup_ratio: float = Field(0.03, ge=0, lt=1)
    """Share of the steps over which the learning rate rises (paper Appendix B.1)."""
    batch_size: int = Field(128, gt=0)
    """Trajectories per optimizer step over all workers (paper Appendix B.1)."""
    max_length: int = Field(8192, gt=0)
    """Tokens of a trajectory (paper Appendix B.1); critical steps beyond it are reported."""
    max_dropped_steps: float = Field(0.05, ge=0, le=1)
    """Refuse to train when a larger share of the critical steps lies beyond `max_length`."""
    pack_tokens: int = Field(8192, gt=0)
    """Tokens of a packed row, the unit of one forward and backward pass."""
    max_grad_norm: float = Field(1.0, gt=0)
    loss: Literal["token_mean", "step_mean"] = "token_mean"
    """Mean over labelled tokens of the whole optimizer step, or over critical steps (each step weighs the same)."""
    workers: int = Field(1, gt=0)
    """Ray Train workers; on GPUs one each."""
    threads: int | None = Field(None, gt=0)
    """CPU threads per worker; None shares the machine's cores among the workers."""
    checkpoint_every: int = Field(50, gt=0)
    """Optimizer steps between checkpoints to resume from."""
    exact: ExactConfig = ExactConfig()
    attention: Literal["auto", "sdpa", "flex", "flash"] = "auto"
    """Kernel: PyTorch's per trajectory, flex_attention, or FlashAttention; `auto` is sdpa on CPUs and flex on GPUs."""
    activation_checkpointing: bool = False
    """Compute a layer's activations again in the backward pass: less memory, a third more work."""
    lora: LoraConfig | None = None
    """Off by default: all weights are tuned (paper Appendix B.1)."""
    warmup: WarmupConfig | None = None
    """Off by default."""

    def recipe(self) -> dict[str, Any]:
        """What of these options determines the weights; a killed run may go on with others of the rest."""
        how = {
            "selections", "max_dropped_steps", "pack_tokens", "workers", "threads", "checkpoint_every", "exact",
            "attention", "activation_checkpointing",
        }  # fmt: skip
        return self.model_dump(mode="json", exclude=how)

    def for_warmup(self) -> TrainConfig:
        """The options of the warm-up: these, with its own epochs, learning rate and batch size.

        Raises:
            ConfigError: no warm-up is configured.
        """
        if self.warmup is None:
            raise ConfigError("train.warmup is not set; give it in the configuration")
        own = self.warmup
        return self.model_copy(
            update={"epochs": own.epochs, "learning_rate": own.learning_rate, "batch_size": own.batch_size}
        )


class TrackConfig(Section):
    """Where training's metrics go besides `metrics/train.jsonl` and Ray's own."""

    mlflow_uri: str | None = None
    """Tracking URI of MLflow (needs the extra `track`); credentials come from MLflow's environment variables."""


class EvaluateConfig(Section):
    """Episodes of every model in every environment."""

    models: tuple[str, ...] = ("random", "base", "llm")
    """`random`, `expert` (policies), `base`, `warmup`, a selection's name (the model tuned on it; `random_steps` for
    the selection `random`), a name in `endpoints`, or a model directory."""
    endpoints: dict[str, EndpointConfig] = Field(default_factory=dict)
    """OpenAI-compatible endpoints by the name that they have in `models` and in the table."""
    environments: tuple[str, ...] = ("all",)
    """Names, or `all`."""
    tasks: int = Field(100, gt=0)
    """Test tasks per environment, at most; the first of the test split."""
    repeats: int = Field(1, gt=0)
    """Episodes per task (with seeds 0, 1, ...); more than one only tells something when sampling."""
    temperature: float = Field(0.0, ge=0)
    """0 is greedy, as AgentGym evaluates."""
    max_new_tokens: int = Field(256, gt=0)
    """Tokens per reply."""
    give_up_after: int | None = Field(None, gt=0)
    """End an episode after so many replies in a row without an action (recorded as `no_action`); None: never."""
    calls_per_step: Literal[1, 2] = 1
    """1: one call writes thought and action, as AgentTraj-L's turns are; 2: one for each (paper section 2)."""
    token_budget: int | None = Field(None, gt=0)
    """No further reply once an episode has generated so many tokens (recorded as `tokens`); None: no limit."""
    instructions: str | None = None
    """AgentTraj-L files (path or glob) whose instructions open the episodes instead of our own."""


class ServeConfig(Section):
    """The tuned agent on Ray Serve."""

    model: str | None = None
    """A checkpoint of the run (`checkpoints/llm`) or a model directory; None: the first of `train.selections`."""
    base: bool = True
    """Serve the base model beside it."""
    host: str = "127.0.0.1"
    """Address to listen at; any other than loopback needs a key."""
    port: int = Field(8000, ge=0, le=65535)
    """Port to listen at."""
    api_key_env: str = "ATLAS_API_KEY"
    """Name of the environment variable that holds the key which clients must send; unset: no key, loopback only."""
    min_replicas: int = Field(1, gt=0)
    """Engines per model at least."""
    max_replicas: int = Field(1, gt=0)
    """Engines per model at most; Ray Serve adds them as requests queue up."""
    servers: int = Field(1, gt=0)
    """Environment servers for sessions."""
    max_sessions: int = Field(256, gt=0)
    """Sessions at a time in one environment server."""
    session_idle_s: float = Field(1800.0, gt=0)
    """Seconds until a session that nobody asks for is closed."""
    requests_per_minute: int = Field(6000, gt=0)
    """Of one client; more are answered by 429."""
    max_body_bytes: int = Field(1_000_000, gt=0)
    """Of a request; larger ones are answered by 413."""


class VerifyConfig(Section):
    """Critical-step verification (paper section 4.6): a model takes over right after each critical step."""

    model: str = "base"
    """Who takes over, named as in `evaluate.models`."""
    selection: Method = "llm"
    """Whose critical steps."""
    trajectories: int = Field(100, gt=0)
    """Per environment, at most (paper section 4.6)."""


class PipelineConfig(Section):
    """Everything that determines a run."""

    run_dir: str = "runs/default"
    """Path or URL of the run directory; relative paths start in the current directory."""
    seed: int = 0
    """Everything random derives from it."""
    model: str = "smollm2-135m-instruct"
    """The base model: a directory, a Hugging Face id, or the one on board."""
    trust_remote_code: bool = False
    """Lets a model repository's own Python code run; leave off unless you have read that code."""
    environments: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Options per environment (`textcraft: {depths: [1]}`), the same in every stage."""
    engine: EngineConfig = EngineConfig()
    rollout: RolloutConfig = RolloutConfig()
    collect: CollectConfig = CollectConfig()
    select: SelectConfig = SelectConfig()
    train: TrainConfig = TrainConfig()
    track: TrackConfig = TrackConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    verify: VerifyConfig = VerifyConfig()
    serve: ServeConfig = ServeConfig()


def load(path: str | None, overrides: dict[str, Any] | None = None) -> PipelineConfig:
    """Read a YAML file and lay dotted overrides (`{"train.epochs": 1}`) over it.

    Raises:
        ConfigError: the file is missing or malformed, an option is unknown, or a value has the wrong type.
    """
    values: Any = {}
    if path is not None:
        try:
            values = yaml.safe_load(Path(path).read_text()) or {}
        except OSError as error:
            raise ConfigError(
                f"config {path}: {error.strerror}; give a YAML file such as configs/quickstart.yaml"
            ) from error
        except yaml.YAMLError as error:
            raise ConfigError(f"config {path}: no valid YAML ({' '.join(str(error).split())})") from error
        if not isinstance(values, dict):
            raise ConfigError(f"config {path}: expected a mapping of sections, found {type(values).__name__}")
    for dotted, value in (overrides or {}).items():
        node = values
        *parents, leaf = dotted.split(".")
        for name in parents:
            if not isinstance(node.get(name), dict):
                node[name] = {}
            node = node[name]
        node[leaf] = value
    try:
        return PipelineConfig.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        found = "" if first["type"] in ("extra_forbidden", "missing") else f", found {first['input']!r}"
        message = "unknown option" if first["type"] == "extra_forbidden" else first["msg"]
        raise ConfigError(f"config {path or '(command line)'}: {where}: {message}{found}; see --help") from error
