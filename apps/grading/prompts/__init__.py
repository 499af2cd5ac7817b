"""Prompts that are Jinja templates: a bounded part of the language, without Python in it."""

from apps.grading.prompts.filling import PromptFailed
from apps.grading.prompts.language import BadPrompt, Prompt, compile_prompt

__all__ = ["BadPrompt", "Prompt", "PromptFailed", "compile_prompt"]
