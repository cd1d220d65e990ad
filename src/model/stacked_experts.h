#pragma once

#include <cstddef>
#include <vector>

#include "calque/io/safetensors.h"
#include "calque/model/config.h"
#include "calque/model/weight_source.h"

// Some checkpoints store one matrix of all experts of a layer in one tensor of three dimensions.
// calque gives them out one by one: "mlp.experts.gate_up_proj" [E, 2 I, H] as
// "mlp.experts.3.gate_proj.weight" [I, H] and "mlp.experts.3.up_proj.weight".
namespace calque::model {

// One expert's matrix, or its bias, in such a tensor.
struct StackedPart {
  SourceTensor tensor;         // as it is given out
  io::TensorRef slab;          // one expert's: [rows, columns], [rows]; MXFP4: [rows, blocks, 16]
  io::TensorRef scales;        // MXFP4: [rows, blocks], else without bytes
  Index first_row = 0;         // counted in the slab as [out, in]
  Index row_step = 1;          // 2: gate and up alternate
  bool is_transposed = false;  // the slab is [in, out]

  // True if the part's bytes lie in the slab one after the other, in their order.
  bool is_contiguous() const { return !is_transposed && row_step == 1 && scales.bytes.empty(); }
  std::span<const std::byte> contiguous_bytes() const;
  // The part in its dtype and row order. MXFP4 becomes BF16, which holds all of its values exactly:
  // code x 2^(scale - 127), two codes a byte, the low one first
  // (https://www.opencompute.org/documents/ocp-microscaling-formats-mx-v1-0-spec-final-pdf).
  std::vector<std::byte> gathered_bytes() const;
  // MXFP4: the rows in GGUF's blocks, a byte of scale and 16 of codes: of 32 values, the first half
  // in the low bits, the second in the high ones.
  std::vector<std::byte> mxfp4_blocks() const;
};

// The parts that `tensor` is given out as; none: it is given out as it is. The scales of an MXFP4
// tensor come with its blocks. Error(kInput) for shapes that contradict each other.
struct TakenApart {
  bool is_taken = false;  // the tensor does not appear under its own name
  std::vector<StackedPart> parts;
  const io::TensorRef* scales = nullptr;  // MXFP4: the tensor of the scales
};
TakenApart take_apart(const io::TensorRef& tensor, StackedExperts layout,
                      const io::SafetensorsCheckpoint& checkpoint);

}  // namespace calque::model
