"""The baselines of Table 4 that are not functions of token ranks and surprisals."""

from rsr.features.judge import CRITERIA, llm_judged_quality
from rsr.features.local_surprisal import avg_surprisal_local
from rsr.features.text import WEIGHTS, rule_based_quality
from rsr.metrics.base import Metric, declare
from rsr.metrics.gradient import GRACE_PRESETS, NORM_PRESETS, g_norm, grace
from rsr.metrics.influence import influence_score

TEACHER_PARAMS = declare(
    Metric(
        name="teacher_params",
        title="Teacher parameters",
        formula="number of parameters of the teacher",
        unit="1e9 parameters",
        direction="higher",
        levels=("dataset",),
        needs="teacher",
        per_student=False,
        source="Table 4",
    )
)

TEACHER_PERFORMANCE = declare(
    Metric(
        name="teacher_performance",
        title="Teacher performance",
        formula="accuracy of the teacher itself on the benchmarks",
        unit="share of problems",
        direction="higher",
        levels=("dataset",),
        needs="teacher",
        per_student=False,
        source="Table 4",
    )
)

VERIFIED_ACCURACY = declare(
    Metric(
        name="verified_accuracy",
        title="Verified accuracy",
        formula="share of trajectories whose final answer equals the reference",
        unit="share of trajectories",
        direction="higher",
        levels=("trajectory", "dataset"),
        needs="answers",
        per_student=False,
        source="Table 4",
    )
)

LLM_JUDGED_QUALITY = declare(
    Metric(
        name="llm_judged_quality",
        title="LLM-judged quality",
        formula="overall score from 0 to 1 given by a judge model",
        unit="",
        direction="higher",
        levels=("trajectory", "dataset"),
        needs="endpoint",
        per_student=False,
        source="Appendix B.1",
        note="The presets are the criteria that the judge scores one by one; its overall score is not their mean. "
        "Criteria and scale are the paper's, the wording of the prompt is this project's.",
        presets={"": {}, **{name: {"criterion": name} for name in CRITERIA}},
        compute=llm_judged_quality,
    )
)

RULE_BASED_QUALITY = declare(
    Metric(
        name="rule_based_quality",
        title="Rule-based quality",
        formula=".30 z(words) + .20 z(check, verify) + .25 z(perhaps, might) + .25 z(therefore, since), "
        "keywords per word, z over the pool of all teachers",
        unit="standard deviations",
        direction="higher",
        levels=("trajectory", "dataset"),
        needs="text",
        per_student=False,
        source="Appendix B.2; LIMO, arXiv 2502.03387",
        note="Depends on the pool it is standardised over: values of different pools do not compare. The presets are the "
        "four z-scores alone; the first is a length.",
        presets={"": {}, **{name: {"only": name} for name in WEIGHTS}},
        compute=rule_based_quality,
    )
)

AVG_SURPRISAL_LOCAL = declare(
    Metric(
        name="avg_surprisal_local",
        title="Mean local surprisal",
        formula="mean of -ln p(token | prompt, the few sentences before its own, its own so far)",
        unit="nats per token",
        direction="lower",
        levels=("trajectory", "dataset"),
        needs="steps",
        per_student=True,
        source="Eq. 11; arXiv 2510.03988",
        note="The paper prints its correlations but, beyond six cells of Table 2, not its scores. It gives neither window "
        "nor splitter: here four sentences. The default averages over tokens (Eq. 11), the preset over steps "
        "(arXiv 2510.03988).",
        presets={"": {}, "mean of steps": {"weight": "step"}},
        compute=avg_surprisal_local,
    )
)

INFLUENCE_SCORE = declare(
    Metric(
        name="influence_score",
        title="Influence score",
        formula="mean over queries of the EK-FAC influence of the trajectory on the query's loss",
        unit="",
        direction="higher",
        levels=("trajectory", "dataset"),
        needs="influence",
        per_student=True,
        source="Appendix B.3; arXiv 2308.03296",
        note="Positive where training on the trajectory lowers the loss of the queries. It grows with length: the preset "
        "divides it by the response tokens. The paper gives neither queries nor modules nor damping.",
        presets={"": {}, "per token": {"per_token": True}},
        compute=influence_score,
    )
)

G_NORM = declare(
    Metric(
        name="g_norm",
        title="G-Norm",
        formula="norm of the projected gradient of the trajectory's mean loss, scaled by log length",
        unit="",
        direction="lower",
        levels=("trajectory", "dataset"),
        needs="gradients",
        per_student=True,
        source="Appendix B.4; arXiv 2511.02833",
        note="The default is read from Appendix B.4 and the printed values; arXiv 2511.02833 squares the norm and divides "
        "by the number of parameters (grace-paper), its authors' code leaves the length out (grace-author-code). Values "
        "of different dimensions or parameters do not compare. An early summary of the paper names one gradient measure, "
        "GRAD, with a correlation of 0.47. Version 5 does not print it; metric=grad shows the two that it prints, G-Norm "
        "and GRACE.",
        presets=NORM_PRESETS,
        compute=g_norm,
    )
)

GRACE = declare(
    Metric(
        name="grace",
        title="GRACE",
        formula="mean over folds S_i of problems of tr(cov(rest, unit rows, smoothed)^-1 cov(S_i)) of projected gradients",
        unit="",
        direction="lower",
        levels=("dataset",),
        needs="gradients",
        per_student=True,
        source="Appendix B.5; arXiv 2511.02833",
        note="Ten disjoint folds, scale ln T, smoothing 1e-3; grace-paper smooths by 1e-4; grace-author-code knows no "
        "length and draws ten times a tenth of the problems. It has no interval: problems drawn twice would be on both "
        "sides of a fold. Governed by its smoothing where rows are fewer than twice the dimensions. See G-Norm on the "
        "name GRAD.",
        presets=GRACE_PRESETS,
        compute=grace,
    )
)
