"""What is random in eval mode is named; dropout, attention and recurrent layers that are off are not."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from codeq.graph.random_numbers import random_layers
from codeq.graph.trace import trace


class Off(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.drop, self.rrelu = nn.Dropout(), nn.RReLU()
        self.rnn = nn.GRU(4, 4, num_layers=2, dropout=0.5, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        y = self.rnn(self.rrelu(self.drop(x)))[0]
        return F.scaled_dot_product_attention(y, y, y, dropout_p=0.0)


class On(Off):
    def forward(self, x: Tensor) -> Tensor:
        x = x + torch.randn_like(x)
        return F.scaled_dot_product_attention(x, x, x, dropout_p=0.5) + self.drop(F.dropout(x, 0.2, training=True))


def test_only_what_draws_random_numbers_is_named() -> None:
    x = torch.rand(2, 3, 4)
    assert random_layers(trace(Off().eval(), (x,))) == ()
    assert random_layers(trace(On().eval(), (x,))) == ("randn_like", "scaled_dot_product_attention", "dropout")
