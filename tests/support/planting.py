"""Patching a model of transformers: its modules, their forwards and their weights."""

import types


def text(model):
    """Return the text model."""
    return getattr(model.model, "language_model", model.model)


def layer(model, i):
    """Return a decoder layer."""
    return text(model).layers[i]


def forward(module, function):
    """Replace the forward of one module by function(module, original, *args, **kwargs)."""
    original = module.forward

    def new(self, *args, **kwargs):
        return function(self, original, *args, **kwargs)

    module.forward = types.MethodType(new, module)


def normed(change):
    """Make a norm's forward whose gain is changed."""

    def run(self, original, x):
        return (self._norm(x.float()) * change(self.weight.float())).type_as(x)

    return run


def identity(self, original, x, *args, **kwargs):
    """Return what came in."""
    return x


def swap(a, name_a, b, name_b):
    """Exchange two submodules."""
    one, other = getattr(a, name_a), getattr(b, name_b)
    setattr(a, name_a, other)
    setattr(b, name_b, one)


def on(module_of, function):
    """Replace the forward of the module that `module_of(layer)` finds."""
    return lambda model, i: forward(module_of(layer(model, i)), function)


def shared(model, i):
    """Give queries and keys each other's norm, whose hooks go along."""
    attn = layer(model, i).self_attn
    q, k = attn.q_norm.weight.detach().clone(), attn.k_norm.weight.detach().clone()
    attn.q_norm.weight.data, attn.k_norm.weight.data = k, q


def gains(one, other):
    """Exchange the gains of two norms of a layer."""

    def plant(model, i):
        a, b = getattr(layer(model, i), one), getattr(layer(model, i), other)
        a.weight.data, b.weight.data = b.weight.detach().clone(), a.weight.detach().clone()

    return plant


def weights(path_a, path_b):
    """Exchange the weights of two linear layers."""

    def plant(model, i):
        a, b = (layer(model, i).get_submodule(path) for path in (path_a, path_b))
        a.weight.data, b.weight.data = b.weight.detach().clone(), a.weight.detach().clone()

    return plant
