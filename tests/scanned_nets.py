"""Small nets like those of transformers and torchvision, for the tests of `harness scan` and `harness init`."""

NETS = """\
import random

import torch
from torch import nn
from torch.nn import functional as F


class RMSNorm(nn.Module):
    def __init__(self, width, eps=1e-6):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, hidden_states):
        return self.weight * hidden_states * torch.rsqrt(hidden_states.pow(2).mean(-1, keepdim=True) + self.eps)


class Config:
    scale = 2


class Scaled(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config

    def forward(self, x):
        return x * self.config.scale


class Attention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.q, self.k, self.v, self.o = (nn.Linear(width, width) for _ in range(4))
        self.heads = heads

    def forward(self, hidden_states, attention_mask=None):
        batch, length, width = hidden_states.shape
        projected = (layer(hidden_states) for layer in (self.q, self.k, self.v))
        q, k, v = (each.view(batch, length, self.heads, -1).transpose(1, 2) for each in projected)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=attention_mask)
        return self.o(mixed.transpose(1, 2).reshape(batch, length, width))


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.norm1, self.norm2 = RMSNorm(width), RMSNorm(width)
        self.attention = Attention(width, heads)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(approximate="tanh"), nn.Linear(2 * width, width))

    def forward(self, x, attention_mask=None):
        x = x + self.attention(hidden_states=self.norm1(x), attention_mask=attention_mask)
        return x + self.mlp(self.norm2(x))


class Decoder(nn.Module):
    def __init__(self, depth=3, width=8):
        super().__init__()
        self.tokens = nn.Embedding(50, width)
        self.scaled = Scaled(Config())
        self.blocks = nn.ModuleList(Block(width, 2) for _ in range(depth))
        self.norm = RMSNorm(width, eps=1e-5)
        self.head = nn.Linear(width, 50, bias=False)

    def forward(self, input_ids=None, attention_mask=None):
        x = self.scaled(self.tokens(input_ids))
        for block in self.blocks:
            x = block(x, attention_mask)
        return self.head(self.norm(x))


class Basic(nn.Module):
    def __init__(self, planes, norm_layer=nn.BatchNorm2d):
        super().__init__()
        self.conv1 = nn.Conv2d(planes, planes, 3, padding=1, bias=False)
        self.bn1 = norm_layer(planes)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(planes, planes, 3, padding=1, bias=False)
        self.bn2 = norm_layer(planes)

    def forward(self, x):
        return self.relu(self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x))))) + x)


class Resnet(nn.Module):
    def __init__(self):
        super().__init__()
        first = nn.Conv2d(3, 4, 7, 2, 3, bias=False)
        self.stem = nn.Sequential(first, nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1))
        self.body = nn.Sequential(Basic(4), Basic(4))
        self.pool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(4, 10)

    def forward(self, image):
        return self.fc(torch.flatten(self.pool(self.body(self.stem(image))), 1))


class Composed(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2)
        self.lstm = nn.LSTM(8, 5, bidirectional=True, batch_first=True)
        self.pool = nn.AvgPool1d(2)

    def forward(self, x):
        x = x + self.attention(x, x, x, need_weights=False)[0]
        hidden = torch.zeros(2, x.shape[0], 5)
        y, _ = self.lstm(self.encoder(x), (hidden, hidden + 1))
        return self.pool(y.transpose(1, 2))


class Unknown(nn.Module):
    def __init__(self):
        super().__init__()
        self.factor = random.random()

    def forward(self, x):
        return x * self.factor


class Changed(nn.Module):
    def __init__(self):
        super().__init__()
        self.unknown, self.pool, self.act = Unknown(), nn.AvgPool2d(2), nn.LeakyReLU(0.2)
        self.pool.divisor_override = 5
        self.script = torch.jit.script(nn.Tanh())
        self.normed = nn.utils.parametrizations.weight_norm(nn.Linear(2, 3))

    def forward(self, x, *, scale: float = 1.0):
        return self.normed(self.script(self.act(self.pool(self.unknown(x)))))


class Classifier(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.head = nn.Linear(6, classes)
        self.act = nn.ReLU()

    def forward(self, features, bias=None):
        x = self.act(self.head(features))
        return x if bias is None else self.act(x) + bias


class Functional(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.ModuleList([nn.Identity()])

    def forward(self, x):
        return F.relu(x)


def needs(classes):
    return Classifier(classes)


class Fails(nn.Module):
    def forward(self, x):
        raise RuntimeError("not today")
"""
