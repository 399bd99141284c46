"""Every kind of mistake in a spec, with its message."""

from __future__ import annotations

import pytest

from harness.errors import SpecError
from harness.spec.language.expand import expand
from harness.spec.language.models import NAME_ONE_MODEL
from harness.spec.language.tolerances import RULE_SYNTAX
from harness.spec.yaml import parse

CASE = "harness: 1\nlayer: MaxPool2d\ncases:\n- {name: a, "
POOL = CASE + "args: {kernel_size: 2}, "
X = "inputs: {x: {shape: [1, 1, 4, 4]}}}"


def messages(text: str) -> list[str]:
    with pytest.raises(SpecError) as caught:
        expand(parse(text, "f"), "f")
    return str(caught.value).splitlines()


FILES = [
    ("", "f:1:1: no value; write keys with values"),
    ("- 1", "f:1:1: [1] is not a mapping; write keys with values"),
    ("layer: ReLU\ncases: [{name: a}]", "f:1:1: harness is missing; add `harness: 1`"),
    ("harness: 2\nlayer: ReLU\ncases: [{name: a}]", "f:1:10: harness: 2 is not allowed here; write 1"),
    ("about: für\nharness: 1\ncases:\n\t- {name: a}", "f:4:1: not YAML: a tab; indent with spaces"),
    ("harness: 1\nlayer: ReLU", "f:1:1: cases is missing; add `cases: [...]`"),
    ("harness: 1\nlayer: ReLU\ncases: []", "f:3:8: cases: has 0 entries; at least 1"),
    ("harness: 1\nlayer: ReLU\ncases: {a: 1}", "f:3:8: cases: {a:1} is not a list; write one, such as [1, 2]"),
    ("harness: 1\nlayers: ReLU\ncases: [{name: a}]", "f:2:1: layers: unknown key; did you mean layer?"),
    (
        "harness: 1\nargs: {a: 1}\ncases: [{name: a}]",
        "f:2:1: args: unknown key; put it under `defaults:`, or in a case",
    ),
    (
        "harness: 1\ndefaults: {layer: ReLU}\ncases: [{name: a}]",
        "f:2:12: layer: unknown key; put the model beside `defaults:`, or in a case",
    ),
    (
        "harness: 1\ndefaults: {mode: evil}\ncases: [{name: a}]",
        "f:2:18: mode: evil is not allowed here; did you mean eval?",
    ),
]


@pytest.mark.parametrize(("text", "line"), FILES)
def test_mistakes_of_a_file(text: str, line: str) -> None:
    assert messages(text) == [line]


CASES = [
    # Keys and names.
    (CASE + "nam: b, args: {kernel_size: 2}, " + X, "f:4:13: nam: unknown key; did you mean name?"),
    (POOL + "shape: [1], " + X, "f:4:37: shape: unknown key; it belongs to an input: `inputs: {x: {...}}`"),
    (
        POOL.replace("name: a", "name: a/b") + X,
        'f:4:10: name: "a/b" is not a name; use letters, digits, `.`, `_` and `-` only',
    ),
    (
        POOL + "inputs: {a b: {shape: [1]}}}",
        'f:4:46: a b: "a b" is not a label; write a letter or `_`, then letters, digits and `_`',
    ),
    # Layers and their arguments.
    (CASE + "layer: MaxPol2d, " + X, "f:4:20: MaxPol2d: torch.nn has no such layer; did you mean MaxPool2d?"),
    (CASE + "layer: maxpool2d, " + X, "f:4:20: maxpool2d: torch.nn has no such layer; did you mean MaxPool2d?"),
    (
        CASE + "layer: Zzz, " + X,
        (
            "f:4:20: Zzz: torch.nn has no such layer; "
            "write a torch.nn class, such as MaxPool2d; for a module of your own, write `factory:`"
        ),
    ),
    (CASE + "layer: Sequential, " + X, "f:4:20: Sequential is not one layer; write the layers under `sequential:`"),
    (
        CASE + "args: {kernal_size: 2}, " + X,
        "f:4:20: kernal_size: MaxPool2d has no such argument; did you mean kernel_size?",
    ),
    (
        CASE + "args: {kernel_size: two}, " + X,
        "f:4:33: kernel_size: MaxPool2d does not accept two; write a whole number or a list of 2 whole numbers",
    ),
    (
        CASE + "args: {kernel_size: [2, 2, 2]}, " + X,
        "f:4:33: kernel_size: MaxPool2d does not accept [2,2,2]; write a whole number or a list of 2 whole numbers",
    ),
    (
        CASE + "args: {kernel_size: 2, ceil_mode: yes}, " + X,
        "f:4:47: ceil_mode: MaxPool2d does not accept yes; write true or false",
    ),
    (
        CASE + "args: {ceil_mode: true}, " + X,
        (
            "f:4:19: kernel_size: MaxPool2d requires this argument; "
            "add it under `args:`, a whole number or a list of 2 whole numbers"
        ),
    ),
    (
        CASE + "args: {kernel_size: 2, dtype: float64}, " + X,
        "f:4:36: dtype: MaxPool2d has no such argument; write `dtype:` beside `args:`",
    ),
    (CASE + "layer: Tanh, args: {dim: 1}, " + X, "f:4:33: dim: Tanh has no such argument; it takes none"),
    (CASE + "args: {kernel_size: 0}, " + X, "f:4:33: kernel_size: 0 is too small; at least 1"),
    (CASE + "args: {kernel_size: [2, 0]}, " + X, "f:4:33: kernel_size: [2,0] is too small; at least 1"),
    (CASE + "args: {kernel_size: 2, stride: -1}, " + X, "f:4:44: stride: -1 is too small; at least 1"),
    (CASE + "args: {kernel_size: 2, padding: -1}, " + X, "f:4:45: padding: -1 is negative; at least 0"),
    (
        CASE + "args: {kernel_size: [4, 2], padding: 2}, " + X,
        "f:4:50: padding: 2 is more than half of kernel_size; at most half of it, rounded down",
    ),
    (
        CASE + "layer: Linear, args: {in_features: -1, out_features: 2}, " + X,
        "f:4:48: in_features: -1 is too small; at least 0",
    ),
    (CASE + "layer: Dropout, args: {p: 2}, " + X, "f:4:39: p: 2 is not a probability; from 0 to 1"),
    (
        CASE + "layer: RReLU, args: {lower: 0.5}, " + X,
        "f:4:41: lower: lower is above upper; lower must not be above upper",
    ),
    (
        CASE + "layer: Conv2d, args: {in_channels: 3, out_channels: 4, kernel_size: 1, groups: 2}, " + X,
        "f:4:48: in_channels: 3 is not divisible by groups; a multiple of 2",
    ),
    # Inputs and their number.
    (POOL[:-2] + "}", "f:4:3: the case has no inputs; add `inputs: {x: {shape: [2, 3]}}`"),
    (
        POOL + "inputs: {x: {shape: [1, 1, 4, 4]}, z: {shape: [1]}}}",
        "f:4:37: 2 inputs, but MaxPool2d takes at most 1; it takes input",
    ),
    (
        CASE + "layer: MaxUnpool2d, args: {kernel_size: 2}, " + X,
        "f:4:57: 1 input, but MaxUnpool2d also needs indices; it takes input, indices, output_size",
    ),
    (
        CASE + "layer: LSTM, args: {input_size: 1, hidden_size: 1}, inputs: {x: {shape: [1, 1]}, h: {shape: [1]}}}",
        "f:4:65: 2 inputs, but LSTM takes at most 1; it takes input",
    ),
    (
        POOL + "forward: {output_size: [5, 5]}, " + X,
        "f:4:47: output_size: MaxPool2d.forward has no such argument; it takes input",
    ),
    (
        CASE + "layer: MaxUnpool2d, args: {kernel_size: 2}, forward: {output_size: five}, "
        "inputs: {x: {shape: [1]}, i: {shape: [1]}}}",
        "f:4:80: output_size: MaxUnpool2d.forward does not accept five; write a list of whole numbers or null",
    ),
    # Tensors.
    (POOL + "inputs: {x: {shape: [1, two]}}}", "f:4:61: shape: two is not a whole number; write one, such as 2"),
    (POOL + "inputs: {x: {shape: [1, -2]}}}", "f:4:61: shape: -2 is too small; at least 0"),
    (POOL + "inputs: {x: {shape: 3}}}", "f:4:57: shape: 3 is not a list; write one, such as [1, 2]"),
    (
        POOL + "inputs: {x: {shape: [1000000, 1000000]}}}",
        "f:4:57: [1000000,1000000] has 1000000000000 elements; at most 268435456 (2^28) per tensor",
    ),
    (
        POOL + "inputs: {x: {fill: ones}}}",
        "f:4:49: a tensor without values and without a shape; give `values`, or a `shape` with a `fill`",
    ),
    (
        POOL + "inputs: {x: {values: [[1, 2], [3]]}}}",
        "f:4:67: values are ragged: 1 here; write a list of 2, as in the first",
    ),
    (
        POOL + "inputs: {x: {values: [[1], 2]}}}",
        "f:4:64: values are ragged: no list here; write a list of 1, as in the first",
    ),
    (POOL + "inputs: {x: {values: [1, nan]}}}", 'f:4:62: values: "nan" is not a number; write .nan'),
    (
        POOL + "inputs: {x: {values: [1, 2], shape: [3]}}}",
        "f:4:73: shape: [3] is not the shape of the values; remove `shape`; the values have shape [2]",
    ),
    (
        POOL + "inputs: {x: {values: [1], fill: ones}}}",
        "f:4:69: fill: the tensor also has values; keep one of them",
    ),
    (
        POOL + "inputs: {x: {values: [300], dtype: uint8}}}",
        "f:4:59: 300 does not fit uint8; a whole number from 0 to 255",
    ),
    (
        POOL + "inputs: {x: {values: [0.5], dtype: int8}}}",
        "f:4:59: 0.5 does not fit int8; a whole number from -128 to 127",
    ),
    (POOL + "inputs: {x: {values: [true]}}}", "f:4:59: true does not fit float32; write a number, or `dtype: bool`"),
    (POOL + "inputs: {x: {values: [1], dtype: bool}}}", "f:4:59: 1 does not fit bool; write true or false"),
    (
        POOL + "inputs: {x: {values: [1.0e+5], dtype: float16}}}",
        "f:4:59: 100000.0 is beyond float16; at most 65504, or .inf",
    ),
    (
        POOL + "inputs: {x: {shape: [1], dtype: float23}}}",
        "f:4:69: dtype: float23 is not allowed here; did you mean float32?",
    ),
    (
        POOL + "dtype: int8, " + X,
        "f:4:44: dtype: int8 is not allowed here; write one of float32, float64, float16, bfloat16",
    ),
    (POOL + "inputs: {x: {shape: [1], fill: one}}}", "f:4:68: fill: one is not a fill; did you mean ones?"),
    (POOL + "inputs: {x: {shape: [1], fill: full}}}", "f:4:68: fill: full is not a fill; write {full: 0.5}"),
    (
        POOL + "inputs: {x: {shape: [1], fill: {uniform: [2, 1]}}}}",
        "f:4:68: fill: [2,1] is empty; low must not be above high",
    ),
    (
        POOL + "inputs: {x: {shape: [1], fill: {uniform: [0, .inf]}}}}",
        "f:4:68: fill: [0,.inf] is not finite; write two finite numbers, low then high",
    ),
    (
        POOL + "inputs: {x: {shape: [1], fill: {integers: [0.5, 1]}}}}",
        "f:4:68: fill: [0.5,1] are not whole numbers; write [low, high] without fractions",
    ),
    (
        POOL + "inputs: {x: {shape: [1], fill: {choice: []}}}}",
        "f:4:68: fill: [] is not a list of choices; write {choice: [v, ...]}",
    ),
    (
        POOL + "inputs: {x: {shape: [1], fill: {full: much}}}}",
        "f:4:68: fill: much is not a number; write one, such as 0.5, .nan or .inf",
    ),
    (
        POOL + "inputs: {x: {shape: [300], fill: arange, dtype: int8}}}",
        "f:4:70: 299 does not fit int8; a whole number from -128 to 127",
    ),
    (
        POOL + "inputs: {x: {shape: [3], fill: {uniform: [0, 1]}, dtype: int8}}}",
        "f:4:68: fill: uniform of int8; write {integers: [low, high]}, or {choice: [...]}",
    ),
    (
        POOL + "inputs: {x: {shape: [3], layout: channels_last}}}",
        "f:4:70: channels_last with 1 axis; it is defined for 4 and 5 axes",
    ),
    (POOL + "inputs: {x: {shape: [3], seed: -1}}}", "f:4:68: seed: -1 is too small; at least 0"),
    # Expectations.
    (POOL + "expect: {raisess: x}, " + X, "f:4:46: raisess: unknown key; did you mean raises?"),
    (POOL + "expect: {range: [1, 0]}, " + X, "f:4:53: range: [1,0] is empty; low must not be above high"),
    (POOL + "expect: {range: [.nan, 0]}, " + X, "f:4:53: range: [.nan,0] is empty; low must not be above high"),
    (POOL + "expect: {shape: [[1], [a]]}, " + X, "f:4:60: shape: a is not a whole number; write one, such as 2"),
    (POOL + "expect: {outputs: []}, " + X, "f:4:55: outputs: has 0 entries; at least 1"),
    (
        POOL + "expect: {outputs: [{fill: ones}]}, " + X,
        "f:4:56: a tensor without values and without a shape; give `values`, or a `shape` with a `fill`",
    ),
    (
        POOL + "expect: {formula: maxx(x)}, " + X,
        "f:4:55: formula: maxx(x): unknown function maxx; did you mean max?",
    ),
    (
        POOL + "expect: {formula: x + kernel_siz}, " + X,
        "f:4:55: formula: x + kernel_siz: unknown name kernel_siz; did you mean kernel_size?",
    ),
    (
        POOL + "expect: {formula: x.size}, " + X,
        "f:4:55: formula: x.size: Attribute is not allowed; use arithmetic, comparisons, subscripts and functions",
    ),
    (
        POOL + "expect: {gradient: 1 +}, " + X,
        "f:4:56: gradient: 1 +: not an expression: invalid syntax; write one as in Python",
    ),
    (
        POOL + "expect: {gradient: {wight: x}}, " + X,
        "f:4:57: wight: neither an input nor a parameter; did you mean weight?",
    ),
    (
        POOL + "expect: {formula: y}, inputs: {y: {shape: [1]}}}",
        "f:4:68: y: in expressions y is the output; give the input another label",
    ),
    (
        POOL + "expect: {equals: {layer: ReLu, args: {}}}, " + X,
        "f:4:62: ReLu: torch.nn has no such layer; did you mean ReLU?",
    ),
    (
        POOL + "expect: {equals: {args: {kernel_size: 3}}}, " + X,
        "f:4:54: no model is named; name one of `layer:`, `sequential:`, `graph:` with `returns:`, `factory:`, `file:`",
    ),
    # A path where a mapping belongs, and a mapping where a path does.
    (
        "harness: 1\ncases:\n  - {name: c, file: {subject: x.onnx}, inputs: {x: {shape: [1]}}}\n",
        (
            "f:3:21: file: `file` is the model that is compared with, not a mapping; "
            "write one path; files under test are written as `files: {subject:x.onnx}`"
        ),
    ),
    (
        "harness: 1\ncases:\n  - {name: c, layer: ReLU, files: x.onnx, inputs: {x: {shape: [1]}}}\n",
        "f:3:35: files: x.onnx has no name; write `files: {deployed: x.onnx}`",
    ),
    (
        "harness: 1\ncases:\n  - {name: c, layer: ReLU, inputs: batch.npz}\n",
        (
            "f:3:36: inputs: batch.npz is no input by label; "
            "write `inputs: {x: {file: batch.npz}}`, or `samples: batch.npz`"
        ),
    ),
    # Tolerances.
    (
        POOL + "tolerance: exactly, " + X,
        "f:4:48: tolerance: exactly is not a tolerance; did you mean exact?",
    ),
    (
        POOL + "tolerance: {ulp: 1, rtol: 1}, " + X,
        f"f:4:48: tolerance: {{ulp:1,rtol:1}} is not a tolerance; {RULE_SYNTAX}",
    ),
    (
        POOL + "tolerance: {ulp: 1.5}, " + X,
        "f:4:48: tolerance: ulp: 1.5 is not a count; write a whole number, at least 0",
    ),
    (
        POOL + "tolerance: {rtol: .nan, atol: 0}, " + X,
        "f:4:48: tolerance: rtol: .nan is not a bound; write a finite number, at least 0",
    ),
    (
        POOL + "tolerance: {by_output: {y: exact}}, " + X,
        "f:4:48: tolerance: by_output: {y:exact}; write rules by output index: {0: exact}",
    ),
    (
        POOL + "tolerance: {}, " + X,
        f"f:4:48: tolerance: {{}} names no rule; {RULE_SYNTAX}",
    ),
    # Dynamic axes and further shapes.
    (POOL + "dynamic: {z: {0: N}}, " + X, "f:4:47: dynamic: no input z; its inputs are x"),
    (POOL + "dynamic: {x: {4: N}}, " + X, "f:4:51: dynamic: x has no axis 4; its axes are 0 to 3"),
    (POOL + "also: [[1, 1, 5, 5]], " + X, "f:4:37: also: the case has no dynamic axis; add `dynamic: {x: {0: N}}`"),
    (
        POOL + "dynamic: {x: {0: N, 2: N}}, " + X,
        "f:4:60: dynamic: axis N is 1 in x and 4 in x; give each size its own name",
    ),
    (
        POOL + "dynamic: {x: {0: N}}, also: [[1, 1, 5]], " + X,
        "f:4:66: also: [1,1,5] has 3 axes, and x has 4; write 4 sizes, as in inputs",
    ),
    (
        POOL + "dynamic: {x: {0: N}}, also: [[1, 1, 5, 4]], " + X,
        "f:4:66: also: axis 2 of x is not dynamic, and 5 is not 4; add it to `dynamic:`, or keep 4",
    ),
    (
        POOL + "dynamic: {x: {2: N, 3: N}}, also: [[1, 1, 5, 6]], " + X,
        "f:4:72: also: axis N has size 5 and size 6; use one size for each name",
    ),
    (POOL + "dynamic: {x: {0: N}}, also: [{z: [1]}], " + X, "f:4:67: also: no input z; its inputs are x"),
    (
        POOL + "bench: [[1000000, 1000000]], " + X,
        "f:4:45: [1000000,1000000] has 1000000000000 elements; at most 268435456 (2^28) per tensor",
    ),
    (
        POOL + "bench: [[1, 1, 2, 2]], inputs: {x: {values: [[[[1], [2]]]]}}}",
        "f:4:45: bench: x has literal values, so it has only one shape; use `shape` and `fill` for it",
    ),
    # Models.
    (
        CASE + "sequential: [{layer: ReLU}], layer: ReLU, " + X,
        f"f:4:13: layer and sequential together; {NAME_ONE_MODEL}",
    ),
    (
        CASE + "sequential: [{layer: ReLU}, {layer: Relu}], " + X,
        "f:4:49: Relu: torch.nn has no such layer; did you mean ReLU?",
    ),
    (
        CASE + "sequential: [{layer: Linear, args: {in_features: 1}}], " + X,
        "f:4:48: out_features: Linear requires this argument; add it under `args:`, a whole number",
    ),
    (
        CASE + "sequential: [{layer: MaxPool2d, args: {kernel_size: 0}}], " + X,
        "f:4:65: kernel_size: 0 is too small; at least 1",
    ),
    (
        CASE + "sequential: [{layer: Bilinear, args: {in1_features: 1, in2_features: 1, out_features: 1}}], " + X,
        "f:4:26: 1 input, but Bilinear also needs input2; it takes input1, input2",
    ),
    (
        CASE + "sequential: [{layer: ReLU}], args: {inplace: true}, " + X,
        (
            "f:4:42: args: not allowed with `sequential:`; "
            "write it with `factory:`, `layer:`, or inside each layer of `sequential:`"
        ),
    ),
    (
        CASE + "sequential: [{layer: ReLU}], inputs: {x: {shape: [1]}, z: {shape: [1]}}}",
        "f:4:13: 2 inputs, but `sequential:` takes one; use `graph:` for several",
    ),
    (
        CASE + "graph: [{layer: ReLU, in: z, out: h}, {layer: ReLU, in: x, out: w}], returns: [h], " + X,
        "f:4:39: z: neither an input nor the output of an earlier layer; the values defined so far: x",
    ),
    (
        CASE + "graph: [{layer: ReLU, in: x, out: h}], returns: [hh], " + X,
        "f:4:62: hh: neither an input nor the output of an earlier layer; did you mean h?",
    ),
    (
        CASE + "graph: [{layer: ReLU, in: x, out: x}], returns: [x], " + X,
        "f:4:47: x: defined twice; give each value its own name",
    ),
    (CASE + "graph: [{layer: ReLU, in: x, out: h}], " + X, "f:4:13: returns is missing; add `returns: [y]`"),
    (CASE + "graph: [{layer: ReLU, out: h}], returns: [h], " + X, "f:4:21: in is missing; add `in: x`"),
    (
        CASE + "graph: [{layer: ReLU, in: x, out: h}], returns: [h], inputs: {x: {shape: [1]}, z: {shape: [1]}}}",
        "f:4:92: z: no layer uses it; use it or remove it",
    ),
    (
        CASE + "layer: ReLU, returns: [y], " + X,
        "f:4:26: returns: not allowed with `layer:`; write it with `graph:`",
    ),
    (
        CASE + "factory: os.system, " + X,
        "f:4:22: factory: os.system is not a factory; write package.module:callable, or path/to/file.py:callable",
    ),
    (CASE + "factory: 'os:system', " + X, "f:4:22: factory: os:system would run code; pass --allow-import to allow it"),
    # Matrices.
    (
        CASE + "matrix: {args.kernal_size: [2]}, " + X,
        "f:4:22: kernal_size: MaxPool2d has no such argument; did you mean kernel_size?",
    ),
    (
        CASE + "matrix: {args.kernel_size: [2, two]}, " + X,
        "f:4:44: kernel_size: MaxPool2d does not accept two; write a whole number or a list of 2 whole numbers",
    ),
    (POOL + "matrix: {arg.padding: [0]}, " + X, "f:4:46: arg.padding: a case has no key arg; did you mean args?"),
    (
        POOL + "matrix: {inputs.z.shape: [[1]]}, " + X,
        "f:4:46: inputs.z.shape: the case has no input z; its inputs are x",
    ),
    (POOL + "matrix: {inputs.x.shap: [[1]]}, " + X, "f:4:46: shap: unknown key; did you mean shape?"),
    (
        POOL + "matrix: {dtype.x: [1]}, dtype: float32, " + X,
        "f:4:46: dtype.x: the case has no x there; correct the dotted path",
    ),
    (POOL + "matrix: {mode: eval}, " + X, "f:4:52: mode: eval is not a list; write one, such as [1, 2]"),
    (POOL + "matrix: {mode: []}, " + X, "f:4:52: mode: has 0 entries; at least 1"),
    (POOL + "matrix: {}, " + X, "f:4:45: matrix: has 0 entries; at least 1"),
    (POOL + "matrix: {mode: [eval, eval]}, " + X, "f:4:59: mode: eval twice; list each value once"),
    (POOL + "matrix: {name: [b]}, " + X, "f:4:46: name: a matrix cannot set it; set it in the case itself"),
    (
        CASE + "matrix: {args: [{kernel_size: 2}], args.padding: [0]}, " + X,
        "f:4:48: args.padding: args sets it too; set each key once",
    ),
    (POOL + "exclude: [{mode: eval}], " + X, "f:4:46: exclude without a matrix; write a `matrix:` beside it"),
    (
        POOL + "matrix: {mode: [eval, train]}, exclude: [{moed: eval}], " + X,
        "f:4:79: moed: the matrix does not set it; did you mean mode?",
    ),
    (
        POOL + "matrix: {mode: [eval, train]}, exclude: [{mode: trainn}], " + X,
        "f:4:85: mode: trainn is not one of its values, so nothing is excluded; write one of eval, train",
    ),
    (
        POOL + "matrix: {mode: [eval]}, exclude: [{mode: eval}], " + X,
        "f:4:45: exclude removes every combination of the matrix; exclude fewer combinations",
    ),
    (
        POOL + f"matrix: {{seed: {list(range(400))}, inputs.x.seed: {list(range(400))}}}, " + X,
        "f:4:45: 160000 combinations; at most 100000; combine fewer values",
    ),
]


@pytest.mark.parametrize(("text", "line"), CASES, ids=[line[:60] for _, line in CASES])
def test_mistakes_of_a_case(text: str, line: str) -> None:
    assert messages(text) == [line]


def test_a_case_without_mistakes_is_a_case() -> None:
    assert len(expand(parse(POOL + X, "f"), "f")) == 1


def test_all_mistakes_of_a_file_are_reported_at_once() -> None:
    text = """harness: 1
layer: MaxPool2d
defaults: {inputs: {x: {shape: [1, 1, 4, 4]}}}
cases:
- {name: a, args: {kernal_size: 2}, expect: {raisess: x}}
- {name: b, args: {kernel_size: 2}, mode: evil}
- {name: b, args: {kernel_size: 0}}
- {name: c, args: {kernel_size: 2}, matrix: {args.paddin: [0]}}
"""
    assert messages(text) == [
        "f:5:20: kernal_size: MaxPool2d has no such argument; did you mean kernel_size?",
        "f:5:46: raisess: unknown key; did you mean raises?",
        "f:6:43: mode: evil is not allowed here; did you mean eval?",
        "f:7:10: name: b is already the name of the case on line 6; give each case its own name",
        "f:7:33: kernel_size: 0 is too small; at least 1",
        "f:8:46: paddin: MaxPool2d has no such argument; did you mean padding?",
    ]


def test_a_mistake_in_the_defaults_hides_no_wrong_names_of_the_cases() -> None:
    text = """
    harness: 1
    layer: MaxPol2d
    defaults: {inputs: {x: {shape: [1, 3, 8, 8], fil: ones}}}
    cases:
      - {name: a, args: {kernel_size: 2}}
      - {name: a, layer: ReLU, args: {inplce: true}}
    """
    wrong = ("MaxPol2d: ", "fil: ", "name: a is already", "inplce: ")
    assert [any(word in message for message in messages(text)) for word in wrong] == [True] * len(wrong)
    assert len(messages(text)) == len(wrong)


def test_a_mistake_in_the_defaults_is_reported_once_at_its_location() -> None:
    text = """harness: 1
layer: MaxPool2d
defaults: {args: {kernal_size: 2}, inputs: {x: {shape: [1, 1, 4, 4]}}}
cases: [{name: a}, {name: b}, {name: c, matrix: {mode: [eval, train]}}]
"""
    assert messages(text) == ["f:3:19: kernal_size: MaxPool2d has no such argument; did you mean kernel_size?"]


def test_a_case_that_expects_an_error_may_have_wrong_values_but_no_wrong_names() -> None:
    wrong = CASE + "args: {kernel_size: 0}, expect: {raises: greater than zero}, " + X
    assert len(expand(parse(wrong, "f"), "f")) == 1
    typo = CASE + "args: {kernal_size: 0}, expect: {raises: greater than zero}, " + X
    assert messages(typo) == ["f:4:20: kernal_size: MaxPool2d has no such argument; did you mean kernel_size?"]


def test_a_factory_is_accepted_with_allow_import() -> None:
    text = CASE + "factory: 'mine:make', args: {anything: 1}, expect: {formula: 'own * x'}, " + X
    assert len(expand(parse(text, "f"), "f", allow_import=True)) == 1
