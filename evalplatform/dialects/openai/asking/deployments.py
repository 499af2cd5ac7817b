"""Chat completions and embeddings of a model that is named in the path, as Azure's clients do."""

from typing import Any

from evalplatform.dialects.kit.viewset import DialectViewSet
from evalplatform.dialects.openai.asking.completions import CompletionViewSet
from evalplatform.dialects.openai.asking.embeddings import EmbeddingViewSet


class _OfDeployment(DialectViewSet):
    """Takes the model from the path, whatever the body says of it."""

    def sent(self) -> Any:
        sent = super().sent()
        return {**sent, "model": self.kwargs["deployment"]} if isinstance(sent, dict) else sent


class DeployedCompletionViewSet(_OfDeployment, CompletionViewSet):
    pass


class DeployedEmbeddingViewSet(_OfDeployment, EmbeddingViewSet):
    pass
