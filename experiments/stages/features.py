"""What each kind of metric needs measured, as configured: which measure, or why there can be none here."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from typing import TYPE_CHECKING

from experiments.app.shared_configs import MetricsConfig, StudentConfig
from experiments.stages import scoring, students
from rsr.data.trajectories import Dataset, find, read
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
    if need == "endpoint" and not (judge.endpoint and judge.model):
        return "needs judge.endpoint and judge.model"
    if need == "influence":
        if find_spec("kronfluence") is None:
            return "needs kronfluence (see docs/baselines.md)"
        if not (influence.reference and influence.queries):
            return "needs influence.reference and influence.queries"
        if PartialState(cpu=config.scoring.device == "cpu").num_processes > 1:
            return "needs a single process: start it without a launcher"
    return None


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

        of = self.config.local
        return LocalSurprisal(self._scorer(), LocalSettings(of.window, of.splitter.value, of.prompt))

    def _gradients(self) -> FeatureExtractor:
        from rsr.features.gradients import GradientSettings, ProjectedGradients, fitting_dimensions

        of = self.config.gradients
        dimensions = of.dimensions or fitting_dimensions(min(len(dataset.trajectories) for dataset in self.data))
        settings = GradientSettings(of.parameters, dimensions, of.seed, of.mask.value)
        return ProjectedGradients(self._scorer(), settings, checkpointing=of.checkpointing)

    def _influence(self) -> FeatureExtractor:
        from rsr.features.influence import Influence, InfluenceSettings, query_direction

        of, config = self.config.influence, self.config
        reference = replace(config.student, model=of.reference, recipe=None)
        found = find(str(of.queries))
        if len(found) != 1:
            raise InputError(f"influence.queries={of.queries} holds {len(found)} datasets: give one file")
        teacher, generation, file = found[0]
        queries = read(file, teacher, generation)
        print(f"fitting the curvature of {of.reference}, where it is not there yet", file=sys.stderr, flush=True)
        settings = InfluenceSettings(of.modules, of.examples, of.seed)

        def load() -> "Scorer":
            return self._load(reference)

        return Influence(load(), query_direction(load, self.data, queries, settings, config.paths.outputs))

    def _judge(self) -> FeatureExtractor:
        from rsr.features.judge import Judge, JudgeSettings

        of = self.config.judge
        assert of.endpoint is not None and of.model is not None
        return Judge(
            JudgeSettings(
                of.endpoint,
                of.model,
                key_variable=of.key_variable,
                template=of.template,
                json_schema=of.json_schema,
                extra=of.extra,
                max_tokens=of.max_tokens,
                max_characters=of.max_characters,
                attempts=of.attempts,
                timeout=of.timeout,
                concurrency=of.concurrency,
            )
        )
