"""Fill prompts that are Jinja templates, in a part of that language which is safe to run."""

from apps.grading.prompts.filling import PromptFailed
from apps.grading.prompts.language import BadPrompt, Prompt, compile_prompt

__all__ = ["BadPrompt", "Prompt", "PromptFailed", "compile_prompt"]
