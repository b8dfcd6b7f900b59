"""Weights of another tensor: another layer's, another projection's, read transposed.

Source: AI-Hypercomputer/maxtext#3191 (a scan that maps layers in another order).
"""

from support.plant_vision import vision
from support.planting import layer

from .case import BOTH, Answer, AnyOf, Planted, Scene, case, text_tap
from .helpers import module_of, put


def of_layer(number: int) -> tuple[Answer, ...]:
    """Name weights of another layer."""
    return (Answer("weights_of_layer", {"layer": number}),)


def one_projection(scene: Scene, tap: str) -> Planted:
    """Give a projection or a norm another layer's weights."""
    i = scene.layer()
    j = scene.other(i)
    put(module_of(scene.model, i, tap), module_of(scene.model, j, tap).weight)
    return Planted((text_tap(i, tap),), of_layer(j), f"{tap} of layer {j} in {i}")


@case(joins=True)
def k_of_another_layer(scene: Scene) -> Planted:
    """Read another layer's key projection."""
    return one_projection(scene, "attn.k")


@case(joins=True)
def q_of_another_layer(scene: Scene) -> Planted:
    """Read another layer's query projection."""
    return one_projection(scene, "attn.q")


@case(joins=True)
def out_of_another_layer(scene: Scene) -> Planted:
    """Read another layer's output projection."""
    return one_projection(scene, scene.draw.choice(["attn.out", "ffn.out"]))


@case(joins=True)
def norm_of_another_layer(scene: Scene) -> Planted:
    """Read another layer's gain."""
    return one_projection(scene, scene.draw.choice(["attn.pre_norm", "attn.post_norm", "ffn.pre_norm", "attn.q_norm"]))


@case(joins=True)
def mlp_of_another_layer(scene: Scene) -> Planted:
    """Read another layer's whole feed-forward network."""
    i = scene.layer()
    j = scene.other(i)
    layer(scene.model, i).mlp.load_state_dict(layer(scene.model, j).mlp.state_dict())
    return Planted((text_tap(i, "ffn.gate"),), of_layer(j), f"mlp of layer {j} in {i}")


@case()
def layers_in_scan_order(scene: Scene) -> Planted:
    """Read the layers of a scan with its two axes exchanged."""
    count = scene.config.layers
    steps = scene.draw.choice([2, 3, 6]) if count == 18 else scene.draw.choice([2, 3])
    order = [i for start in range(steps) for i in range(start, count, steps)]
    states = [{name: value.clone() for name, value in layer(scene.model, i).state_dict().items()} for i in range(count)]
    for i, j in enumerate(order):
        layer(scene.model, i).load_state_dict(states[j])
    wrong = next(i for i, j in enumerate(order) if i != j)
    return Planted((text_tap(wrong, "attn.pre_norm"),), of_layer(order[wrong]), f"order {order}")


@case(prompt="images", on=("tiny",))
def tower_of_last_layer(scene: Scene) -> Planted:
    """Read the last layer of the tower everywhere."""
    blocks = vision(scene.model).encoder.layers
    blocks[0].load_state_dict(blocks[-1].state_dict())
    return Planted(("vision.layer.0.attn.pre_norm",), of_layer(len(blocks) - 1), "last layer in all")


def other_tensor(scene: Scene, tap: str, source: str) -> Planted:
    """Give a projection the weights of another one of its layer."""
    i = scene.layer()
    put(module_of(scene.model, i, tap), module_of(scene.model, i, source).weight)
    short = source.split(".")[1]
    field = source.replace("ffn.pre_norm", "pre_ffn_norm").split(".")[-1]
    names = AnyOf((f"layer.{i}.{short}", f"layer.{i}.{field}", f"layer.{i}.{source}", f"text.layer.{i}.{source}"))
    return Planted((text_tap(i, tap),), (Answer("weights_of_tensor", {"tensor": names}),), f"{source} in {tap}")


@case(joins=True)
def v_is_k(scene: Scene) -> Planted:
    """Read the key projection for values."""
    return other_tensor(scene, "attn.v", "attn.k")


@case(joins=True)
def up_is_gate(scene: Scene) -> Planted:
    """Read the gate projection for up."""
    return other_tensor(scene, "ffn.up", "ffn.gate")


@case(joins=True)
def k_norm_is_q_norm(scene: Scene) -> Planted:
    """Read the gain of the queries' norm for the keys'."""
    return other_tensor(scene, "attn.k_norm", "attn.q_norm")


@case(on=BOTH, joins=True)
def post_norm_is_pre_norm(scene: Scene) -> Planted:
    """Read the gain of the norm before the feed-forward network for the one after attention."""
    return other_tensor(scene, "attn.post_norm", "ffn.pre_norm")


def in_tower(scene: Scene, i: int, name: str, source: str, transposed: bool = False) -> str:
    """Give a square projection of the tower another one's weight, or its own turned; return its tap."""
    attn = vision(scene.model).encoder.layers[i].self_attn
    weight = getattr(attn, f"{source}_proj").weight.clone()
    put(getattr(attn, f"{name}_proj"), weight.T if transposed else weight)
    return f"vision.layer.{i}.attn.{name.removesuffix('_proj')}"


@case(prompt="images", on=("tiny",))
def tower_transposed(scene: Scene) -> Planted:
    """Read a square matrix of the tower as its transpose."""
    i, name = scene.draw.randrange(2), scene.draw.choice(["q", "k", "v", "out"])
    return Planted((in_tower(scene, i, name, name, True),), (Answer("weights_transposed"),), f"{name} of block {i}")


@case(prompt="images", on=("tiny",))
def tower_k_is_q(scene: Scene) -> Planted:
    """Read the queries' weight for the keys' in the tower; the bias is right."""
    i = scene.draw.randrange(2)
    names = AnyOf((f"vision.layer.{i}.q", f"vision.layer.{i}.attn.q", f"layer.{i}.q"))
    tap = in_tower(scene, i, "k", "q")
    return Planted((tap,), (Answer("weights_of_tensor", {"tensor": names}),), f"q in k of block {i}")
