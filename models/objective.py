"""What training minimises: the loss of a network with other weights than its own, those that would arrive."""

from torch import Tensor, nn
from torch.func import functional_call

from airnet_sdr.models.batches import Batch
from airnet_sdr.models.distill import distillation_loss, matching_loss, recorded
from airnet_sdr.models.task import Task, output_of
from airnet_sdr.models.train_config import TrainConfig


class Objective(nn.Module):
    """The loss of a network, as a module whose `network` takes other weights by `functional_call`."""

    def __init__(self, network: nn.Module, task: Task, config: TrainConfig):
        super().__init__()
        self.network, self.task, self.config = network, task, config

    def forward(self, batch: Batch, taught: list[Tensor] | None) -> Tensor:
        """The loss of a batch, with the teacher's outputs if given."""
        task, config, share = self.task, self.config, self.config.teacher_share
        if taught is None:
            return task.batch_loss(self.network, batch, config.label_smoothing)
        if task.loss is None:
            output, labels = output_of(self.network, batch)
            return distillation_loss(output.float(), taught[0], labels, config.temperature, share)
        with recorded(self.network) as outputs:
            own = task.batch_loss(self.network, batch)
        return (1 - share) * own + share * matching_loss(outputs, taught)

    def at(self, weights: dict[str, Tensor], batch: Batch, taught: list[Tensor] | None) -> Tensor:
        """The loss with these weights of the network."""
        named = {f"network.{name}": weight for name, weight in weights.items()}
        return functional_call(self, named, (batch, taught))
