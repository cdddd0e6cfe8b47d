"""The student: model, tokenizer, chat template and identity."""
