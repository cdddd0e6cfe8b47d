from experiments.config import SelectionConfig
from experiments.entry import entry
@entry("trajectory_selection", SelectionConfig, open_groups=True)
def main(config: SelectionConfig) -> None: ...
