"""READ: what its branch shares, whose attention is mixed in, and where gradients go."""

import pytest
import torch
from torch.nn.functional import cross_entropy, log_softmax
from transformers import BertConfig, BertForSequenceClassification

from harness_plugin import HarnessError
from harness_plugin.models.network import Network
from harness_plugin.training.batch import Batch, TrainingMetadata
from harness_plugin.training.contracts import ForwardContext
from harness_plugin_hooks.methods.attention import READ, layers_of

Z = torch.tensor([[2, 0, -1], [0.5, 1, 0], [-1, 0, 1], [1, 1, 0]], dtype=torch.float64)
Y = torch.tensor([0, 1, 2, 0])
FACTS = TrainingMetadata(label=Y, group=torch.zeros(4, dtype=torch.long), n_labels=3, groups=("a",))
ROWS = torch.arange(4)
PAIR = {
    "input_ids": torch.tensor([[2, 7, 8, 3, 9, 3], [2, 7, 3, 9, 3, 0]]),
    "attention_mask": torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 0]]),
    "token_type_ids": torch.tensor([[0, 0, 0, 0, 1, 1], [0, 0, 0, 1, 1, 0]]),
}
HIDDEN, HEADS, LABELS = 16, 2, 3


def tiny(layers=4):
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=20,
        hidden_size=HIDDEN,
        num_hidden_layers=layers,
        num_attention_heads=HEADS,
        intermediate_size=32,
        num_labels=LABELS,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        initializer_range=0.3,
    )
    return BertForSequenceClassification(config).train()


def with_branch(depth=4, **options):
    """A network, and READ with a branch whose queries and keys are other than the network's."""
    network, method = Network(tiny(depth)), READ(FACTS, **options)
    method.setup(network)
    for layer in layers_of(method.branch.model):
        for projection in (layer.attention.self.query, layer.attention.self.key):
            projection.weight.data += 0.5 * torch.randn_like(projection.weight)
    return network, method


def forward(method, network):
    return method(ForwardContext(network, PAIR, Batch(ROWS[:2], Y[:2], ROWS[:2])))


@pytest.mark.parametrize("layers", [1, 2, 4])
def test_the_branch_is_at_most_half_as_deep(layers):
    _, method = with_branch(layers)
    assert len(layers_of(method.branch.model)) == max(1, layers // 2)


def test_the_branch_shares_all_but_queries_keys_and_what_follows_the_layers():
    """As the authors' tie_main_and_bias_model, by names and by count."""
    network, method = with_branch()
    names = {id(p): name for name, p in network.named_parameters()}
    own = {n: p for n, p in method.branch.named_parameters() if id(p) not in names}
    parts = {n.replace("model.bert.", "").rpartition(".")[0] for n in own}
    queries_and_keys = {
        f"encoder.layer.{i}.attention.self.{name}" for i in range(2) for name in ("query", "key")
    }
    assert parts == {*queries_and_keys, "pooler.dense", "model.classifier"}
    square = HIDDEN * HIDDEN + HIDDEN
    assert sum(p.numel() for p in own.values()) == 5 * square + LABELS * HIDDEN + LABELS
    shared = {n: p for n, p in method.branch.named_parameters() if id(p) in names}
    assert all(names[id(p)] == n for n, p in shared.items())  # each is its own counterpart


def attention_of(query, key, hidden, mask):
    """(b, heads, L, L) softmax of Q K' / sqrt(head size), written out."""
    b, length, _ = hidden.shape
    q, k = (p(hidden).view(b, length, HEADS, -1).permute(0, 2, 1, 3) for p in (query, key))
    scores = q @ k.transpose(2, 3) / (HIDDEN / HEADS) ** 0.5
    return scores.masked_fill(mask[:, None, None, :] == 0, float("-inf")).softmax(-1)


def test_the_attention_mixed_in_is_that_of_the_main_models_own_hidden_states():
    """In the second layer those are not the branch's own any more."""
    network, method = with_branch(ratio=0.25, layers=2)
    main, branch = layers_of(network.model), layers_of(method.branch.model)
    seen = {}

    def keep(number):
        def hook(module, inputs, output):
            seen[number] = (inputs[0].detach(), output[1].detach())

        return hook

    for number in range(3):
        main[number].attention.self.register_forward_hook(keep(number))
    forward(method, network)
    for number in range(3):
        hidden, weights = seen[number]
        own = main[number].attention.self
        expected = attention_of(own.query, own.key, hidden, PAIR["attention_mask"])
        if number < 2:
            theirs = branch[number].attention.self
            biased = attention_of(theirs.query, theirs.key, hidden, PAIR["attention_mask"])
            assert not torch.allclose(biased, expected, atol=0.05)
            expected = 0.25 * biased + 0.75 * expected
        assert torch.allclose(weights, expected, atol=1e-6), number


def test_after_training_the_main_model_answers_alone():
    network, method = with_branch(ratio=0.25)
    plain = tiny()
    plain.load_state_dict(network.model.state_dict())
    training = forward(method, network)[0].logits
    network.eval()
    plain.eval()
    with torch.no_grad():
        assert torch.allclose(network(PAIR).logits, plain(**PAIR).logits, atol=1e-6)
        assert not torch.allclose(network(PAIR).logits, training, atol=1e-3)
    assert not any("biased" in name for name, _ in network.named_modules())


def test_no_gradient_reaches_the_branch_from_the_main_model():
    network, method = with_branch()
    layer = layers_of(method.branch.model)[1].attention.self
    output, extra = forward(method, network)
    output.logits.square().sum().backward(retain_graph=True)
    assert layer.query.weight.grad is None
    assert network.model.bert.embeddings.word_embeddings.weight.grad is not None
    network.zero_grad()
    extra["branch"].square().sum().backward()
    assert layer.query.weight.grad.abs().max() > 0
    shared = network.model.bert.embeddings.word_embeddings.weight
    assert shared.grad.abs().max() > 0  # what is shared learns from both
    assert layers_of(network.model)[1].attention.self.query.weight.grad is None


def test_read_trains_the_main_model_against_the_branch_and_the_branch_alone():
    z, b = Z.clone().requires_grad_(), (Z.flip(0)).clone().requires_grad_()
    loss = READ(FACTS).loss(z, Batch(ROWS, Y, ROWS, outputs={"branch": b}))
    joint = cross_entropy(log_softmax(Z, 1) + log_softmax(Z.flip(0), 1), Y)
    assert loss.item() == pytest.approx(float(joint + cross_entropy(Z.flip(0), Y)))
    loss.backward()
    onehot = torch.nn.functional.one_hot(Y, 3)
    assert torch.allclose(b.grad, (Z.flip(0).softmax(1) - onehot) / 4)
    assert torch.allclose(z.grad, ((Z + log_softmax(Z.flip(0), 1)).softmax(1) - onehot) / 4)


def test_read_is_refused_for_a_network_without_attention(open_context):
    with pytest.raises(HarnessError, match=r"read cannot train resnet-nano: resnet is not one of"):
        open_context("method=read", task="celeba_bias")
