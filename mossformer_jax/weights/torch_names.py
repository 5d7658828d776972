"""The official PyTorch parameter names and layouts, as a table of rules that is used in both directions.

The official name in a rule starts with a root in braces, which depends on the checkpoint family. It contains `{i}` if
there is one tensor per block; our parameter stacks these tensors along a leading axis.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Layout:
    """Conversion from torch's layout to ours: axes of size 1 are dropped, then the others are transposed.

    Attributes:
        drop: axes of size 1 in the torch tensor that are dropped.
        transpose: our order of the remaining axes; () keeps the order.
    """

    drop: tuple[int, ...] = ()
    transpose: tuple[int, ...] = ()

    def from_torch(self, array: np.ndarray) -> np.ndarray:
        """Converts an array from torch's layout to ours."""
        kept = np.squeeze(array, self.drop)
        return kept.transpose(self.transpose) if self.transpose else kept

    def to_torch(self, array: np.ndarray) -> np.ndarray:
        """Inverse of `from_torch`."""
        turned = array.transpose(np.argsort(self.transpose)) if self.transpose else array
        return np.expand_dims(turned, self.drop)

    def torch_shape(self, shape: Shape) -> Shape:
        """The shape in torch's layout of an array with `shape` in ours."""
        return self.to_torch(np.broadcast_to(np.float32(0), shape)).shape


SAME = Layout()
SCALAR = Layout(drop=(0,))  # (1,) -> ()
LINEAR = Layout(transpose=(1, 0))  # (out, in) -> (in, out)
POINTWISE = Layout(drop=(2,), transpose=(1, 0))  # 1x1 convolution: (out, in, 1) -> (in, out)
DEPTHWISE = Layout(drop=(1,), transpose=(1, 0))  # (channels, 1, taps) -> (taps, channels)
TRANSPOSED = Layout(drop=(1,))  # (in, 1, taps) -> (in, taps)
DENSE_FIRST = Layout(drop=(1, 3), transpose=(1, 0))  # (channels, 1, taps, 1) -> (taps, channels)
DENSE_SECOND = Layout(drop=(3,), transpose=(2, 1, 0))  # (channels, 2, taps, 1) -> (taps, 2, channels)


@dataclass(frozen=True)
class Rule:
    """An official name, our name, and the conversion between the layouts."""

    official: str
    ours: str
    layout: Layout = SAME

    @property
    def per_block(self) -> bool:
        """Whether the official network has one such tensor per block."""
        return "{i}" in self.official


def _conv_projection(official: str, ours: str, norm: tuple[Rule, ...]) -> tuple[Rule, ...]:
    return (
        *(Rule(f"{official}.mdl.0.{rule.official}", f"{ours}.norm.{rule.ours}", rule.layout) for rule in norm),
        Rule(f"{official}.mdl.1.weight", f"{ours}.linear.kernel", LINEAR),
        Rule(f"{official}.mdl.1.bias", f"{ours}.linear.bias"),
        Rule(f"{official}.mdl.3.sequential.1.conv.weight", f"{ours}.conv.kernel", DEPTHWISE),
    )


SCALE_NORM = (Rule("g", "scale", SCALAR),)
AFFINE_NORM = (Rule("weight", "scale"), Rule("bias", "bias"))
ATTENTION, OUR_ATTENTION = "{blocks}layers.{i}", "mask_net.blocks.attention"
FSMN, OUR_FSMN = "{blocks}fsmn.{i}", "mask_net.blocks.fsmn"
MEMORY, OUR_MEMORY = f"{FSMN}.gated_fsmn.fsmn", f"{OUR_FSMN}.memory"

COMMON_RULES = (
    Rule("{encoder}conv1d.weight", "encoder.kernel", DEPTHWISE),
    Rule("{decoder}weight", "decoder.kernel", TRANSPOSED),
    Rule("{mask}norm.weight", "mask_net.input_norm.scale"),
    Rule("{mask}norm.bias", "mask_net.input_norm.bias"),
    Rule("{mask}conv1d_encoder.weight", "mask_net.input_projection.kernel", POINTWISE),
    Rule("{mask}pos_enc.scale", "mask_net.positions.scale", SCALAR),
    Rule("{mask}pos_enc.inv_freq", "mask_net.positions.frequencies"),
    Rule("{stack_norm}weight", "mask_net.stack_norm.scale"),
    Rule("{stack_norm}bias", "mask_net.stack_norm.bias"),
    Rule("{outer_norm}weight", "mask_net.outer_norm.scale"),
    Rule("{outer_norm}bias", "mask_net.outer_norm.bias"),
    Rule("{mask}prelu.weight", "mask_net.prelu.slope", SCALAR),
    Rule("{mask}conv1d_out.weight", "mask_net.source_projection.kernel", POINTWISE),
    Rule("{mask}conv1d_out.bias", "mask_net.source_projection.bias"),
    Rule("{mask}output.0.weight", "mask_net.output.kernel", POINTWISE),
    Rule("{mask}output.0.bias", "mask_net.output.bias"),
    Rule("{mask}output_gate.0.weight", "mask_net.output_gate.kernel", POINTWISE),
    Rule("{mask}output_gate.0.bias", "mask_net.output_gate.bias"),
    Rule("{mask}conv1_decoder.weight", "mask_net.mask_projection.kernel", POINTWISE),
    *_conv_projection(f"{ATTENTION}.to_hidden", f"{OUR_ATTENTION}.to_hidden", SCALE_NORM),
    *_conv_projection(f"{ATTENTION}.to_qk", f"{OUR_ATTENTION}.to_qk", SCALE_NORM),
    *_conv_projection(f"{ATTENTION}.to_out", f"{OUR_ATTENTION}.to_out", SCALE_NORM),
    Rule(f"{ATTENTION}.qk_offset_scale.gamma", f"{OUR_ATTENTION}.offset_scale.gamma"),
    Rule(f"{ATTENTION}.qk_offset_scale.beta", f"{OUR_ATTENTION}.offset_scale.beta"),
    # One table, which the official network repeats in every block.
    Rule(f"{ATTENTION}.rotary_pos_emb.freqs", "mask_net.rotary.frequencies"),
)

FSMN_RULES = (
    Rule(f"{FSMN}.conv1.0.weight", f"{OUR_FSMN}.input_projection.kernel", POINTWISE),
    Rule(f"{FSMN}.conv1.0.bias", f"{OUR_FSMN}.input_projection.bias"),
    Rule(f"{FSMN}.conv1.1.weight", f"{OUR_FSMN}.input_prelu.slope", SCALAR),
    Rule(f"{FSMN}.norm1.weight", f"{OUR_FSMN}.input_norm.scale"),
    Rule(f"{FSMN}.norm1.bias", f"{OUR_FSMN}.input_norm.bias"),
    *_conv_projection(f"{FSMN}.gated_fsmn.to_u", f"{OUR_FSMN}.to_u", AFFINE_NORM),
    *_conv_projection(f"{FSMN}.gated_fsmn.to_v", f"{OUR_FSMN}.to_v", AFFINE_NORM),
    Rule(f"{MEMORY}.linear.weight", f"{OUR_MEMORY}.linear.kernel", LINEAR),
    Rule(f"{MEMORY}.linear.bias", f"{OUR_MEMORY}.linear.bias"),
    Rule(f"{MEMORY}.project.weight", f"{OUR_MEMORY}.project.kernel", LINEAR),
    Rule(f"{MEMORY}.conv.conv1.weight", f"{OUR_MEMORY}.dense.conv1.kernel", DENSE_FIRST),
    Rule(f"{MEMORY}.conv.norm1.weight", f"{OUR_MEMORY}.dense.norm1.scale"),
    Rule(f"{MEMORY}.conv.norm1.bias", f"{OUR_MEMORY}.dense.norm1.bias"),
    Rule(f"{MEMORY}.conv.prelu1.weight", f"{OUR_MEMORY}.dense.prelu1.slope"),
    Rule(f"{MEMORY}.conv.conv2.weight", f"{OUR_MEMORY}.dense.conv2.kernel", DENSE_SECOND),
    Rule(f"{MEMORY}.conv.norm2.weight", f"{OUR_MEMORY}.dense.norm2.scale"),
    Rule(f"{MEMORY}.conv.norm2.bias", f"{OUR_MEMORY}.dense.norm2.bias"),
    Rule(f"{MEMORY}.conv.prelu2.weight", f"{OUR_MEMORY}.dense.prelu2.slope"),
    Rule(f"{FSMN}.norm2.weight", f"{OUR_FSMN}.output_norm.scale"),
    Rule(f"{FSMN}.norm2.bias", f"{OUR_FSMN}.output_norm.bias"),
    Rule(f"{FSMN}.conv2.weight", f"{OUR_FSMN}.output_projection.kernel", POINTWISE),
    Rule(f"{FSMN}.conv2.bias", f"{OUR_FSMN}.output_projection.bias"),
)

SHARED_BY_ALL_BLOCKS = "mask_net.rotary.frequencies"


def rules(with_fsmn: bool) -> tuple[Rule, ...]:
    """The rules of MossFormer2, or (without FSMN) of MossFormer v1."""
    return COMMON_RULES + FSMN_RULES if with_fsmn else COMMON_RULES


def _roots(encoder: str, decoder: str, mask: str, blocks: str, stack_norm: str, outer_norm: str) -> dict[str, str]:
    return {
        "encoder": encoder,
        "decoder": decoder,
        "mask": mask,
        "blocks": mask + blocks,
        "stack_norm": mask + stack_norm,
        "outer_norm": mask + outer_norm,
    }


_CLEARERVOICE_ROOTS = _roots(
    "enc.", "dec.", "mask_net.", "mdl.intra_mdl.mossformerM.", "mdl.intra_mdl.norm.", "mdl.intra_norm."
)

FAMILY_ROOTS = {
    "A": _CLEARERVOICE_ROOTS,
    "B": _CLEARERVOICE_ROOTS,
    "C": _roots(
        "encoder.",
        "decoder.",
        "masknet.",
        "dual_mdl.0.intra_mdl.mdl.flashT.",
        "dual_mdl.0.intra_mdl.mdl.norm.norm.",
        "dual_mdl.0.intra_norm.",
    ),
    "D": _roots(
        "encoder.", "decoder.", "mask_net.", "mdl.att_mdl.mossformerM.", "mdl.att_mdl.norm.norm.", "mdl.att_norm."
    ),
}

FAMILY_TITLES = {
    "A": "ClearerVoice MossFormer2_SS (16 kHz)",
    "B": "ModelScope MossFormer2 (8 kHz)",
    "C": "Hugging Face mossformer2-*spk (8 kHz)",
    "D": "ModelScope MossFormer v1 (8 kHz)",
}


def official_name(rule: Rule, family: str, block: int | None = None) -> str:
    """The official name of a rule in a family; for rules per block, the name in the given block."""
    return rule.official.format(i=block, **FAMILY_ROOTS[family])


def official_names(rule: Rule, family: str, num_blocks: int) -> list[str]:
    """All official names of a rule: one, or one per block."""
    return [official_name(rule, family, i) for i in (range(num_blocks) if rule.per_block else (None,))]
