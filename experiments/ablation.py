"""What each part of RSR contributes (Tables 5 and 14).

    python experiments/ablation.py student=all
    python experiments/ablation.py student=smollm2 teachers=FOLDER 'ablation.r_max=[10,50,100,500,null]'

For the paper's students: the correlations that follow from printed scores. For any other: every variant from the token
stores of score.py, without another forward pass, and how far its order of teachers agrees with RSR's. Writes
results/ablation/<student>[-<teachers>]/.
"""

from experiments.analysis.ablation import measured
from experiments.app import result_folder
from experiments.app.command_configs import AblationConfig
from experiments.app.entry import entry
from experiments.app.shared_configs import reads_published
from experiments.paper import published
from experiments.reports.ablation import measured_report, published_report
from experiments.stages.scoring import token_stores


@entry("ablation", AblationConfig, open_groups=True)
def main(config: AblationConfig) -> None:
    if reads_published(config.student.source, config.teachers):
        text = published_report(published.read(config.paths.published), config)
        table = None
    else:
        stores = token_stores(config)
        if stores is None:
            return
        table = measured(stores, config.ablation, config.bootstrap.seed)
        text = measured_report(table, stores)
    folder = result_folder.folder_of(config, "ablation")
    result_folder.publish(folder, text, {} if table is None else {"table.csv": table})


if __name__ == "__main__":
    main()
