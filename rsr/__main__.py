"""python -m rsr"""

from rsr.cli import main

main()
