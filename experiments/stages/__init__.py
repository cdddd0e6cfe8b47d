"""The stages of the study, as configured: students, teachers, scoring, training, evaluation and what stands beside them."""
