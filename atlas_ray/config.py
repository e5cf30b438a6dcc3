"""The configuration: one section per stage, composed into `PipelineConfig`.

A default that is the paper's says its section. Nothing here is a secret: keys are named by their environment
variables. The options of a selection method are in the method's own file, reading files is in `config_files.py`.
Logging and Ray's own settings are left to Ray's environment variables.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, ValidationError, model_validator

from atlas_ray import plugins
from atlas_ray.errors import ConfigError
from atlas_ray.section import NamesUnits, RuntimeOnly, Section

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


class EngineConfig(Section):
    """vLLM engines for evaluation and perplexity."""

    dtype: str = "auto"
    """`auto` takes bf16 on GPUs and on CPUs that have it (AMX, AVX512-BF16), fp32 on others, which emulate it 4 to 17
    times slower."""
    max_model_len: int = Field(4096, gt=0)
    """Context in tokens; AgentGym evaluates with 4,096."""
    max_num_seqs: RuntimeOnly[int] = Field(64, gt=0)
    """Sequences that an engine batches at a time."""
    replicas: RuntimeOnly[int] = Field(1, gt=0)
    """Engines per model."""
    tensor_parallel: RuntimeOnly[int] = Field(1, gt=0)
    """GPUs per engine."""
    gpu_memory_utilization: RuntimeOnly[float] = Field(0.9, gt=0, le=1)
    """Share of a GPU's memory for weights and cache."""
    enforce_eager: RuntimeOnly[bool] = False
    """On GPUs: compile nothing and capture no graphs. An engine starts sooner and generates slower."""
    cpu_kv_cache_gib: RuntimeOnly[int] = Field(2, gt=0)
    """Cache of a CPU engine in GiB."""
    tool_parser: str | None = None
    """vLLM's parser of tool calls (`hermes`, `llama3_json`, `mistral`, ...), for `evaluate.action_format: tools` and
    for serving; None: the one that reads calls as the model's chat template writes them."""


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
    api_key_env: RuntimeOnly[str] = "OPENAI_API_KEY"
    """Name of the environment variable that holds the key."""
    concurrency: RuntimeOnly[int] = Field(32, gt=0)
    """Requests under way per environment server."""
    timeout_s: RuntimeOnly[float] = Field(120.0, gt=0)
    """Seconds until a request is given up and tried again."""
    max_retries: RuntimeOnly[int] = Field(8, ge=0)
    """Tries after the first for 429, 5xx, timeouts and broken connections; Retry-After is honoured."""


class CollectConfig(Section):
    """Where the expert trajectories come from."""

    source: str = "expert"
    """`expert` lets each environment's expert play training tasks; else a file, a folder or a glob of trajectories in
    the shapes of docs/data.md, as JSON, JSON Lines or Parquet, compressed or not, or a data set on the Hub:
    `hf://datasets/OWNER/NAME[@REVISION][/PATH]`."""
    trajectories: dict[str, int] = Field(default_factory=dict)
    """Number of training tasks per environment; with an import, at most so many (none named: all)."""
    min_score: float | None = Field(None, ge=0, le=1)
    """Episodes below this score are dropped, and counted in the manifest; None keeps the successful ones. Imported
    trajectories that tell neither success nor reward are kept."""
    keep_failures: bool = False
    """Keep failed trajectories too, whatever `min_score`, to tune on their good steps (2504.13145: choose with
    `value`); the warm-up has none."""
    environments: dict[str, str] = Field(default_factory=dict)
    """Of an import: our names of environments by the names that the files have, as in `{os: my_shell}`."""
    reasoning: bool = False
    """Of an import: keep the reasoning that a row has apart from an assistant's text, which a thinking model learns to
    write before it."""
    action_format: Literal["react", "tools"] | None = None
    """How the trajectories' actions are written: as the text `Action: ...`, or as calls of the functions that their
    environment offers, in whatever form they come. None: an import's as they come, experts' as text. Models are
    evaluated with `evaluate.action_format`."""
    allow_evaluated_items: RuntimeOnly[bool] = False
    """Train on tasks that `evaluate.items` names, which is refused otherwise."""
    style: Literal["plain", "checks", "slips", "wanders"] = "plain"
    """How experts play: as they are, looking after every action, with mistakes, or the long way round."""
    rate: float = Field(1.0, ge=0, le=1)
    """Probability of a look after an action, or of a mistake or detour before one."""
    warmup_style: Literal["plain", "checks", "slips", "wanders"] | None = None
    """How experts play the trajectories of the warm-up; None: as the others, at the same rate."""
    warmup_rate: float = Field(1.0, ge=0, le=1)
    """Of `warmup_style`."""
    max_rounds: dict[str, int] = Field(default_factory=dict)
    """Round cap per environment while trajectories are collected, played again and forked; evaluation keeps the
    environment's own."""


FilterName = Literal["errors", "looks", "repeats"]
"""Of what removes chosen steps from a selection; see `atlas_ray/selection/filters.py`."""


class SoftWeights(Section):
    """A weight for every step by its score, in place of the chosen steps alone (after 2508.05629, 2601.02151).

    See `atlas_ray/selection/soft.py`.
    """

    kind: Literal["rank", "softmax"] = "rank"
    """`rank`: the share of the trajectory's steps that a step is at least as good as; `softmax`: exp((score - highest
    score) / temperature)."""
    temperature: float | None = Field(None, gt=0)
    """Of `softmax`, in the unit of the scores; needed there, and of no use to `rank`."""

    @model_validator(mode="after")
    def _temperature_is_softmaxs(self) -> Self:
        if (self.temperature is None) is (self.kind == "softmax"):
            wants = "needs a temperature" if self.kind == "softmax" else "takes no temperature"
            raise ConfigError(f"soft_weights: kind {self.kind} {wants}, as in {{kind: softmax, temperature: 0.5}}")
        return self


class SelectionConfig(Section):
    """One named selection: a method with a ratio and options of its own; what is not given is `select`'s default."""

    model_config = ConfigDict(extra="allow", frozen=True)

    method: str | None = None
    """The selection method; None: the method that the selection is named after."""
    ratio: float | None = Field(None, gt=0, le=1)
    """None: `select.ratio`."""
    filters: tuple[FilterName, ...] | None = None
    """Filters behind the method, in this order; None: `select.filters`."""
    soft_weights: SoftWeights | None = None
    """Every step carries loss, with a weight by its score; None: the steps that the method chooses."""

    @property
    def options(self) -> dict[str, Any]:
        """What is given besides: options of the method."""
        return dict(self.model_extra or {})


@dataclass(frozen=True)
class SelectionSpec:
    """A selection as it is to be made."""

    name: str
    """Of its folder, its checkpoint and its row in the tables."""
    method: str
    ratio: float
    options: Section
    """Of the method's own class."""
    seed: int
    filters: tuple[FilterName, ...] = ()
    """What removes chosen steps, in this order."""
    soft_weights: SoftWeights | None = None
    """How scores become weights of all steps; None: the chosen steps carry loss."""


class SelectConfig(Section):
    """Which steps are critical.

    Besides these fields there is one section per selection method that takes options (`select.llm`, `select.value`):
    the defaults of every selection by that method.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    methods: NamesUnits[tuple[str, ...]] = ()
    """Selections to make besides those that are trained on: names in `selections`, or methods with these defaults."""
    selections: NamesUnits[dict[str, SelectionConfig]] = Field(default_factory=dict)
    """Selections by name, as in `{random_10: {method: random, ratio: 0.1}}`; all of them are made."""
    ratio: float = Field(0.3, gt=0, le=1)
    """At most this share of a trajectory's steps, at least one (paper section 4.2)."""
    filters: tuple[FilterName, ...] = ()
    """What removes steps after the method has chosen, in every selection that does not say otherwise: `errors` removes
    steps that the environment refuses, `looks` steps that change nothing, `repeats` steps taken before in the same
    state."""

    @classmethod
    def open_sections(cls) -> Mapping[str, type[Section]]:
        """The options of every method that has any, by the method's name."""
        found = {name: method_options(name) for name in plugins.names(plugins.SELECTION_METHODS)}
        return {name: options for name, options in found.items() if options.model_fields}

    @model_validator(mode="before")
    @classmethod
    def _methods_exist(cls, values: Any) -> Any:
        """Turn each method's defaults into that method's options, and refuse what is neither field nor method."""
        if not isinstance(values, dict):
            return values
        checked = dict(values)
        for name in values.keys() - cls.model_fields.keys():
            if name not in (known := plugins.names(plugins.SELECTION_METHODS)):
                hint = plugins.nearest(name, [*cls.model_fields, *known])
                if name == "complement_of":
                    hint = "; it is select.non_critical.complement_of now"
                raise ConfigError(f"select.{name}: unknown option{hint}; see --help")
            try:
                checked[name] = method_options(name).model_validate(values[name])
            except ValidationError as error:
                raise ConfigError(f"select.{name}.{explain(error)}; see --help") from error
        return checked

    @model_validator(mode="after")
    def _selections_are_sound(self) -> Self:
        for name in self.selections:
            if not _NAME.fullmatch(name):
                raise ConfigError(f"select.selections: {name!r} is no name; use letters, digits, '_' and '-'")
            self.spec(name, 0)
        for name in self.methods:
            self.spec(name, 0)
        return self

    def determinants(self) -> dict[str, Any]:
        """As every section's, with the defaults of the methods."""
        return super().determinants() | {name: options.determinants() for name, options in self._defaults().items()}

    def spec(self, name: str, seed: int) -> SelectionSpec:
        """A selection by its name, or by a method's name with the defaults of this section.

        Raises:
            ConfigError: there is neither such a selection nor such a method, or an option is wrong.
        """
        own = self.selections.get(name, SelectionConfig())
        method = own.method or name
        known = plugins.names(plugins.SELECTION_METHODS)
        if method not in known:
            where = f"select.selections.{name}.method" if own.method else "select: selection"
            raise ConfigError(
                f"{where} {method!r}: no such method{plugins.nearest(method, [*known, *self.selections])}"
            )
        options = method_options(method)
        defaults = self._defaults().get(method)
        given = {} if defaults is None else {field: getattr(defaults, field) for field in defaults.model_fields_set}
        try:
            found = options.model_validate(given | own.options)
        except ValidationError as error:
            raise ConfigError(f"select.selections.{name}.{explain(error)}; see --help") from error
        filters = self.filters if own.filters is None else own.filters
        return SelectionSpec(name, method, own.ratio or self.ratio, found, seed, filters, own.soft_weights)

    def selection_names(self) -> list[str]:
        """Every name that means a selection here: those in `selections`, and the methods'."""
        return list(dict.fromkeys([*self.selections, *plugins.names(plugins.SELECTION_METHODS)]))

    def _defaults(self) -> dict[str, Section]:
        return {name: value for name, value in (self.model_extra or {}).items() if isinstance(value, Section)}


def method_options(method: str) -> type[Section]:
    """The options of a selection method, by its name.

    Raises:
        ConfigError: there is no such method.
    """
    options: type[Section] = plugins.load(plugins.SELECTION_METHODS, method).Options
    return options


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


class DpoConfig(Section):
    """Direct preference optimization (Rafailov et al., arXiv 2305.18290) on step preferences out of rollouts."""

    beta: float = Field(0.1, gt=0)
    """How closely the model is held to the one that training starts from (equation 7)."""
    max_p: float = Field(0.05, gt=0, le=1)
    """One action is better than another if the p-value of the difference of their rollouts' scores is at most this."""
    against: Literal["each", "rest"] = "each"
    """What the better action's rollouts are tested against: those of the worse action, or those of all other actions at
    the state together, which needs fewer rollouts where a policy's actions vary, and says less of each."""


class TrainConfig(Section):
    """Fine-tuning on critical steps alone (paper Appendix B.1)."""

    selections: NamesUnits[tuple[str, ...]] = ("llm",)
    """One checkpoint per seed for each of these selections."""
    seeds: NamesUnits[tuple[int, ...]] = ()
    """Each selection is trained once with each of these seeds; empty: with the run's seed. The first one's checkpoint
    is called like the selection, the others' `<selection>.s<seed>`."""
    epochs: int = Field(3, gt=0)
    """Paper Appendix B.1."""
    labelled_tokens: Annotated[int, Field(gt=0)] | Literal["all"] | None = None
    """Train for so many labelled tokens instead of `epochs`: up to the first optimizer step that reaches them. `all`:
    as many as all steps of the tuning set have in `epochs` epochs, so that selections compare at equal labels. None:
    `epochs` counts."""
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
    max_dropped_steps: RuntimeOnly[float] = Field(0.05, ge=0, le=1)
    """Refuse to train when a larger share of the critical steps lies beyond `max_length`."""
    pack_tokens: RuntimeOnly[Annotated[int, Field(gt=0)] | Literal["auto"]] = "auto"
    """Tokens of a packed row, the unit of one forward and backward pass; `auto` is 8,192 on CPUs, and on GPUs what fits
    beside the model."""
    max_grad_norm: float = Field(1.0, gt=0)
    objective: Literal["sft", "dpo"] = "sft"
    """What tuning on a selection learns: to write its steps, or to prefer the better of two actions at them. `dpo`
    needs a selection whose rollouts are there (method `value`, or one made from it); its models are called
    `<selection>.dpo`, and the warm-up stays `sft` (not in the paper)."""
    dpo: DpoConfig = DpoConfig()
    loss: Literal["token_mean", "step_mean"] = "token_mean"
    """Mean over labelled tokens of the whole optimizer step, or over critical steps (each step weighs the same). Of
    `dpo`: the sum or the mean of a reply's log-probabilities."""
    span: Literal["both", "thought", "action"] = "both"
    """Which tokens of a chosen step carry loss: its thought, its action, or both (2505.13820, 2605.14558). The
    end-of-turn token belongs to the action. The warm-up always learns both."""
    thought_weight: float = Field(1.0, gt=0)
    """Weight of a thought's token beside an action's, which is 1; for `span: both`."""
    workers: RuntimeOnly[int] = Field(1, gt=0)
    """Ray Train workers; on GPUs one each."""
    threads: RuntimeOnly[int | None] = Field(None, gt=0)
    """CPU threads per worker; None shares the machine's cores among the workers."""
    checkpoint_every: RuntimeOnly[int] = Field(50, gt=0)
    """Optimizer steps between checkpoints to resume from."""
    max_failures: RuntimeOnly[int] = Field(3, ge=0)
    """How often in a row, without a new state in between, a training goes on by itself from its last state when a
    worker, a node or Ray Train's controller is lost."""
    exact: RuntimeOnly[ExactConfig] = ExactConfig()
    attention: RuntimeOnly[Literal["auto", "sdpa", "flex", "flash"]] = "auto"
    """Kernel: PyTorch's per trajectory, flex_attention, or FlashAttention; `auto` is sdpa on CPUs and flex on GPUs."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of forward and backward passes; weights, their gradients and the optimizer's state are fp32. `auto`: bf16 on GPUs
    and on processors that multiply it, fp32 on others (as `engine.dtype`)."""
    compile: RuntimeOnly[Literal["auto"] | bool] = "auto"
    """Compile the decoder layers (`torch.compile`); `auto` does so on GPUs, where small kernels wait for the host, and
    replays those of a small model as CUDA graphs; `true` compiles without graphs."""
    activation_checkpointing: RuntimeOnly[bool] = False
    """Compute a layer's activations again in the backward pass: less memory, a third more work."""
    lora: LoraConfig | None = None
    """Off by default: all weights are tuned (paper Appendix B.1)."""
    warmup: WarmupConfig | None = None
    """Off by default."""

    @property
    def row_tokens(self) -> int:
        """`pack_tokens` as a number: that of CPUs, where it is `auto`."""
        return 8192 if self.pack_tokens == "auto" else self.pack_tokens

    def for_warmup(self) -> TrainConfig:
        """The options of the warm-up: these, with its own epochs, learning rate and batch size.

        Raises:
            ConfigError: no warm-up is configured.
        """
        if self.warmup is None:
            raise ConfigError("train.warmup is not set; give it in the configuration")
        own = self.warmup
        return self.model_copy(
            update={
                "epochs": own.epochs, "learning_rate": own.learning_rate, "batch_size": own.batch_size, "warmup": None,
                "labelled_tokens": None, "objective": "sft", "dpo": DpoConfig(), "span": "both", "thought_weight": 1.0,
            }
        )  # fmt: skip

    def for_tuning(self) -> TrainConfig:
        """The options of tuning on a selection: these, without the warm-up, which is a model of its own."""
        return self.model_copy(update={"warmup": None})


class TrackConfig(Section):
    """Where training's metrics go besides `metrics/train.jsonl` and Ray's own."""

    to: tuple[Literal["mlflow", "tensorboard", "trackio", "wandb"], ...] = ()
    """Trackers; each takes its address and credentials from its own environment variables (docs/training.md). All but
    `tensorboard` need the extra of their name."""
    project: str = "atlas-ray"
    """What trackers file the runs under."""


class ThinkingConfig(Section):
    """Thinking before an answer, of models whose chat template knows it (docs/training.md)."""

    on: bool | None = None
    """Turns it on or off where the template has a switch; training, scoring and evaluation then show the same prompts.
    None leaves it as the template has it."""
    max_tokens: int | None = Field(None, gt=0)
    """Tokens of thinking per reply, beside the `max_new_tokens` of the answer: a model that has not ended its thinking
    by then is made to. None: both share `max_new_tokens`, and thinking that is cut off leaves a reply without an
    action."""


class Playing(Section):
    """How a model plays an episode."""

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
    thinking: ThinkingConfig = ThinkingConfig()
    action_format: Literal["react", "tools"] = "react"
    """How an action is written: as the text `Action: ...`, or as the call of a function that the environment offers
    (docs/environments.md). `tools` needs a model, or an endpoint, that knows tool calls."""

    @model_validator(mode="after")
    def _one_call_has_thought_and_action(self) -> Self:
        if self.action_format == "tools" and self.calls_per_step == 2:
            raise ConfigError("calls_per_step is 2 and action_format tools: a tool call comes with its thought; take 1")
        return self


class EvaluateConfig(Playing):
    """Episodes of every model in every environment."""

    models: NamesUnits[tuple[str, ...]] = ("random", "base", "llm")
    """`random`, `expert` (policies), `base`, `warmup`, a selection's name (the model tuned on it, once for every seed;
    `<name>_steps` where the name has another meaning here, as `random_steps`), a checkpoint's name, a name in
    `endpoints`, or a model directory."""
    endpoints: NamesUnits[dict[str, EndpointConfig]] = Field(default_factory=dict)
    """OpenAI-compatible endpoints by the name that they have in `models` and in the table."""
    environments: tuple[str, ...] = ("all",)
    """Names, or `all`."""
    tasks: int = Field(100, gt=0)
    """Test tasks per environment, at most; the first of the test split. With `items`: no limit."""
    items: str | None = None
    """A file, a folder or a glob of lists of `{"item_id": ...}`, as AgentGym's AgentEval has, or of trajectories:
    exactly these tasks are evaluated, in whatever split they are here. An item that cannot be located is named and
    counted. `hf://datasets/...` as for `collect.source`."""
    repeats: int = Field(1, gt=0)
    """Episodes per task (with seeds 0, 1, ...); more than one only tells something when sampling."""
    instructions: str | None = None
    """AgentTraj-L files (path or glob) whose instructions open the episodes instead of our own."""

    @property
    def playing(self) -> Playing:
        """How models play, alone."""
        return Playing.model_validate({name: getattr(self, name) for name in Playing.model_fields})


class ServeConfig(Section):
    """The tuned agent on Ray Serve."""

    model: str | None = None
    """A checkpoint of the run (`checkpoints/llm`) or a model directory; None: the first of `train.selections`."""
    base: bool = True
    """Serve the base model beside it."""
    adapters: dict[str, str] = Field(default_factory=dict)
    """Adapters of the base model, which its engine serves too, by the names that requests call them by: a checkpoint of
    the run that was trained with `train.lora` (`checkpoints/llm`), or a directory that peft has written."""
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

    model: NamesUnits[str] = "base"
    """Who takes over, named as in `evaluate.models`."""
    selection: NamesUnits[str] = "llm"
    """Whose critical steps: a selection's name."""
    trajectories: int = Field(100, gt=0)
    """Per environment, at most (paper section 4.6)."""


class PipelineConfig(Section):
    """Everything that determines a run."""

    run_dir: RuntimeOnly[str] = "runs/default"
    """Path or URL of the run directory; relative paths start in the current directory."""
    seed: int = 0
    """Everything random derives from it."""
    model: str = "smollm2-135m-instruct"
    """The base model: a directory, a Hugging Face id (`owner/name`, `owner/name@revision`), or the one on board."""
    trust_remote_code: bool = False
    """Lets a model repository's own Python code run; leave off unless you have read that code."""
    environments: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Options per environment (`textcraft: {depths: [1]}`), the same in every stage."""
    engine: EngineConfig = EngineConfig()
    rollout: RuntimeOnly[RolloutConfig] = RolloutConfig()
    collect: CollectConfig = CollectConfig()
    select: SelectConfig = SelectConfig()
    train: TrainConfig = TrainConfig()
    track: RuntimeOnly[TrackConfig] = TrackConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    verify: VerifyConfig = VerifyConfig()
    serve: RuntimeOnly[ServeConfig] = ServeConfig()

    @property
    def training_seeds(self) -> tuple[int, ...]:
        """The seeds that each selection is trained with, the first one's checkpoint being called like the selection."""
        return self.train.seeds or (self.seed,)

    def collect_options(self, env: str) -> dict[str, Any]:
        """The options of an environment while trajectories are collected, played again and forked."""
        options = dict(self.environments.get(env, {}))
        if env in self.collect.max_rounds:
            options["max_rounds"] = self.collect.max_rounds[env]
        return options

    def selection(self, name: str) -> SelectionSpec:
        """A selection by its name; see `SelectConfig.spec` for the errors."""
        return self.select.spec(name, self.seed)


def explain(error: ValidationError) -> str:
    """The first thing that is wrong, on one line: dotted name, what was expected, what was found."""
    first = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    found = "" if first["type"] in ("extra_forbidden", "missing") else f", found {first['input']!r}"
    message = "unknown option" if first["type"] == "extra_forbidden" else first["msg"]
    return f"{where}: {message}{found}"
