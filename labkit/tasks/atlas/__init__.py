"""The small world Atlas: facts, questions, extraction of answers from free text, exam."""
