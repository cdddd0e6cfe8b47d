"""What each kind of metric needs measured, as configured: which measure, or why there can be none here."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from typing import TYPE_CHECKING

from experiments.app.shared_configs import MetricsConfig, StudentConfig
from experiments.stages import scoring, students, teacher_data
from rsr.data.places import find
from rsr.data.trajectories import Dataset, read
from rsr.errors import InputError
from rsr.features import text
from rsr.features.extractor import FeatureExtractor
from rsr.metrics.base import Need

if TYPE_CHECKING:
    from rsr.tokens.engine import Scorer


def missing(need: Need, config: MetricsConfig) -> str | None:
    """Why there can be no such measurement here; None where there can."""
    from accelerate import PartialState

    judge, influence = config.judge, config.influence
    if need == "teacher" and not config.teachers.teachers:
        return "needs a teacher table (configs/teachers/)"
    if need == "answers":
        return "needs graded answers, which this command does not make"
    if need == "graded" and not _answers_known(config):
        return "needs answers to the problems, of which no record says one"
    if need in ("endpoint", "judged") and not (judge.endpoint and judge.model):
        return "needs judge.endpoint and judge.model"
    if need == "influence":
        if find_spec("kronfluence") is None:
            return "needs kronfluence (see docs/baselines.md)"
        if not (influence.reference and influence.queries):
            return "needs influence.reference and influence.queries"
        if PartialState(cpu=config.scoring.device == "cpu").num_processes > 1:
            return "needs a single process: start it without a launcher"
    return None


def _answers_known(config: MetricsConfig) -> bool:
    data = teacher_data.load(config.teachers, config.scoring, config.paths)
    return any(t.answer is not None for dataset in data for t in dataset.trajectories)


@dataclass
class Measures:
    """Makes the measure of each need; the student is loaded once, and only where it is needed."""

    config: MetricsConfig
    data: Sequence[Dataset]
    loaded: "list[Scorer]" = field(default_factory=list)

    def measure(self, need: Need) -> FeatureExtractor:
        makers: dict[Need, Callable[[], FeatureExtractor]] = {
            "text": text.TextCounts,
            "steps": self._steps,
            "step_heads": self._step_heads,
            "responses_alone": self._responses_alone,
            "activations": self._activations,
            "gradients": self._gradients,
            "endpoint": self._judge,
            "influence": self._influence,
        }
        return makers[need]()

    def _scorer(self) -> "Scorer":
        if not self.loaded:
            self.loaded.append(self._load(self.config.student))
        return self.loaded[0]

    def _load(self, student: StudentConfig) -> "Scorer":
        from rsr.tokens.engine import Scorer

        loaded = students.load(student, self.config.scoring, self.config.paths)
        return Scorer(loaded, scoring.settings_of(self.config.scoring))

    def _steps(self) -> FeatureExtractor:
        from rsr.features.local_surprisal import LocalSettings, LocalSurprisal

        local = self.config.local
        return LocalSurprisal(self._scorer(), LocalSettings(local.window, local.splitter.value, local.prompt))

    def _step_heads(self) -> FeatureExtractor:
        from rsr.features.step_heads import StepHeads

        return StepHeads(self._scorer(), self.config.local.splitter.value)

    def _responses_alone(self) -> FeatureExtractor:
        from rsr.features.responses_alone import ResponsesAlone

        return ResponsesAlone(self._scorer())

    def _activations(self) -> FeatureExtractor:
        from rsr.features.activations import Activations

        return Activations(self._scorer())

    def _gradients(self) -> FeatureExtractor:
        from rsr.features.gradients import GradientSettings, ProjectedGradients, fitting_dimensions

        gradients = self.config.gradients
        dimensions = gradients.dimensions or fitting_dimensions(min(len(dataset.trajectories) for dataset in self.data))
        settings = GradientSettings(gradients.parameters, dimensions, gradients.seed, gradients.mask.value)
        return ProjectedGradients(self._scorer(), settings, checkpointing=gradients.checkpointing)

    def _influence(self) -> FeatureExtractor:
        from rsr.features.influence import Influence, InfluenceSettings, query_direction

        influence, config = self.config.influence, self.config
        reference = replace(config.student, model=influence.reference, recipe=None)
        datasets = find(str(influence.queries))
        if len(datasets) != 1:
            raise InputError(f"influence.queries={influence.queries} holds {len(datasets)} datasets: give one file")
        teacher, generation, file = datasets[0]
        queries = read(file, teacher, generation)
        print(f"fitting the curvature of {influence.reference}, where it is not there yet", file=sys.stderr, flush=True)
        settings = InfluenceSettings(influence.modules, influence.examples, influence.seed)

        def load() -> "Scorer":
            return self._load(reference)

        return Influence(load(), query_direction(load, self.data, queries, settings, config.paths.outputs))

    def _judge(self) -> FeatureExtractor:
        from rsr.features.judge import Judge
        from rsr.grading.endpoint import JudgeSettings

        judge = self.config.judge
        assert judge.endpoint is not None and judge.model is not None
        return Judge(
            JudgeSettings(
                judge.endpoint,
                judge.model,
                key_variable=judge.key_variable,
                template=judge.template,
                json_schema=judge.json_schema,
                extra=judge.extra,
                max_tokens=judge.max_tokens,
                max_characters=judge.max_characters,
                attempts=judge.attempts,
                timeout=judge.timeout,
                concurrency=judge.concurrency,
            )
        )
