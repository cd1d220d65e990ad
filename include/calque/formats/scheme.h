#pragma once

#include <optional>
#include <span>
#include <string_view>

#include "calque/core/input_grid.h"
#include "calque/formats/plan.h"
#include "calque/quant/grid.h"

namespace calque::formats {

class Refusals;

// A way in which a server rounds the inputs of linears.
struct Activations {
  std::string_view name;   // in job files: "fp8_token"
  std::string_view title;  // in tables: "FP8 a token"
  std::string_view summary;
  std::optional<InputGrid> grid;  // nullopt: they stay as they are
};
std::span<const Activations> activations();
// The row of a linear's inputs; its `scale` does not count.
const Activations& activations_of(const std::optional<InputGrid>& inputs);

// A scheme under the name that compressed-tensors and llm-compressor give it: the numbers of the
// weights, and what happens to the inputs.
struct Scheme {
  std::string_view name;   // "FP8_DYNAMIC"
  std::string_view other;  // another name, or ""
  std::string_view summary;
  std::optional<SmallFloat> number;  // as in quant::Grid
  int bits;
  Index group_size;
  Index scale_rows;
  bool sym;
  std::string_view activations;  // a row of activations()
  std::string_view runs_on;      // runtimes and machines, a sentence; "": as widths say
  std::optional<ScalePrecision> coded_scales = std::nullopt;  // as in quant::Grid
};
std::span<const Scheme> schemes();
const Scheme* find_scheme(std::string_view name);  // null: there is none

// The scheme of a planned linear, whatever its groups, if it has one with `runs_on`.
const Scheme* scheme_of(const TensorPlan& planned);

// `quantization` as the request's scheme and activations say it. Refusals: E122 a name that is not
// known, E133 a scheme and activations that contradict each other, or that do not go together.
QuantizationRequest with_scheme(const QuantizationRequest& quantization,
                                const ExportRequest& request, Refusals& refusals);

}  // namespace calque::formats
