#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <vector>

#include "calque/core/names.h"
#include "calque/formats/scheme.h"
#include "formats/messages.h"

namespace calque::formats {
namespace {

using Scale = InputGrid::Scale;

constexpr std::string_view kNone = "none";
constexpr Index kBlockRows = 128;

const Activations kActivations[] = {
    {kNone, "", "inputs stay as they are", std::nullopt},
    {"int8_token", "INT8 a token", "8-bit integers, a scale a token, while the server runs",
     InputGrid{.scale_of = Scale::kToken}},
    {"fp8_token", "FP8 a token", "FP8, a scale a token, while the server runs",
     InputGrid{.scale_of = Scale::kToken, .number = SmallFloat::kE4M3}},
    {"fp8_group", "FP8 a token and 128 channels",
     "FP8, a scale a token and 128 channels, while the server runs",
     InputGrid{.scale_of = Scale::kGroup, .number = SmallFloat::kE4M3, .group = 128}},
    {"fp8_tensor", "FP8, calibrated", "FP8, one scale a linear, from calibration",
     InputGrid{.scale_of = Scale::kTensor, .number = SmallFloat::kE4M3}},
    {"mxfp8", "MXFP8", "FP8, a power of two a token and 32 channels, while the server runs",
     InputGrid{.scale_of = Scale::kPower, .number = SmallFloat::kE4M3, .group = 32}},
    {"mxfp4", "MXFP4", "FP4, a power of two a token and 32 channels, while the server runs",
     InputGrid{.scale_of = Scale::kPower, .number = SmallFloat::kE2M1, .group = 32}},
    {"nvfp4", "NVFP4, calibrated",
     "FP4, an FP8 scale a token and 16 channels while the server runs, and a number a linear, from "
     "calibration",
     InputGrid{.scale_of = Scale::kCoded, .number = SmallFloat::kE2M1, .group = 16}},
};

constexpr std::optional<SmallFloat> kInteger = std::nullopt;
constexpr std::optional<SmallFloat> kFp8 = SmallFloat::kE4M3;
constexpr std::optional<SmallFloat> kFp4 = SmallFloat::kE2M1;
constexpr std::optional<ScalePrecision> kFp8Scales = ScalePrecision::kE4M3;
constexpr std::optional<ScalePrecision> kPowers = ScalePrecision::kE8M0;

constexpr std::string_view kFp8Runs =
    "vLLM and SGLang multiply FP8 numbers on NVIDIA GPUs from Ada and Hopper on, and on AMD MI300; "
    "on older NVIDIA GPUs, from Turing on, vLLM widens the weights and leaves inputs as they are.";
constexpr std::string_view kFp8A16Runs =
    "vLLM widens the weights in its kernels, on NVIDIA GPUs from Turing on.";
constexpr std::string_view kInt8Runs =
    "vLLM multiplies 8-bit integers on NVIDIA GPUs from Turing to Hopper, and on CPUs.";
constexpr std::string_view kW4A8Runs =
    "vLLM needs the package of Humming's kernels and an NVIDIA GPU from Turing on.";
constexpr std::string_view kW4AFp8Runs =
    "vLLM has the kernel for NVIDIA Hopper alone, with groups of 128 and a model in bfloat16.";
constexpr std::string_view kNvfp4Runs =
    "vLLM and SGLang multiply NVFP4 on NVIDIA GPUs from Blackwell on; on older ones, from Turing "
    "on, vLLM widens the weights and leaves inputs as they are.";
constexpr std::string_view kNvfp4A16Runs =
    "vLLM widens the weights in its kernels, on NVIDIA GPUs from Turing on.";
constexpr std::string_view kMxfp4Runs =
    "vLLM multiplies MXFP4 on NVIDIA GPUs from Blackwell on and on AMD MI350; on older NVIDIA "
    "GPUs, from Ampere on, it widens the weights and leaves inputs as they are.";
constexpr std::string_view kMxfp4A16Runs =
    "vLLM widens the weights in its kernels, on NVIDIA GPUs from Ampere on.";
constexpr std::string_view kMxfp4Xfp8Runs =
    "vLLM has no kernel with FP8 inputs: it rounds them to MXFP4 where it multiplies MXFP4, and "
    "else leaves them as they are.";
constexpr std::string_view kMxfp8Runs =
    "vLLM multiplies MXFP8 on NVIDIA GPUs from Blackwell on; on older ones, from Turing on, it "
    "widens the weights and leaves inputs as they are.";
constexpr std::string_view kMxfp8A16Runs =
    "vLLM widens the weights in its kernels, on NVIDIA GPUs from Turing on.";

constexpr Scheme kSchemes[] = {
    // name, other name, summary, number, bits, group, rows of a scale, symmetric, activations,
    // where it runs, scales that are codes
    {"W2A16", "", "2-bit integers", kInteger, 2, 128, 1, true, kNone, ""},
    {"W3A16", "", "3-bit integers", kInteger, 3, 128, 1, true, kNone, ""},
    {"W4A16", "", "4-bit integers", kInteger, 4, 128, 1, true, kNone, ""},
    {"W4A16_ASYM", "", "4-bit integers with zero points", kInteger, 4, 128, 1, false, kNone, ""},
    {"W5A16", "", "5-bit integers", kInteger, 5, 128, 1, true, kNone, ""},
    {"W6A16", "", "6-bit integers", kInteger, 6, 128, 1, true, kNone, ""},
    {"W7A16", "", "7-bit integers", kInteger, 7, 128, 1, true, kNone, ""},
    {"W8A16", "", "8-bit integers", kInteger, 8, 128, 1, true, kNone, ""},
    {"W8A8", "INT8", "8-bit integers a row", kInteger, 8, -1, 1, true, "int8_token", kInt8Runs},
    {"W4A8", "", "4-bit integers", kInteger, 4, 128, 1, true, "int8_token", kW4A8Runs},
    {"W4AFP8", "", "4-bit integers", kInteger, 4, 128, 1, true, "fp8_token", kW4AFp8Runs},
    {"FP8_DYNAMIC", "", "FP8, a scale a row", kFp8, 8, -1, 1, true, "fp8_token", kFp8Runs},
    {"FP8", "FP8_STATIC", "FP8, a scale a matrix", kFp8, 8, -1, quant::Grid::kAllRows, true,
     "fp8_tensor", kFp8Runs},
    {"FP8_BLOCK", "", "FP8, a scale a block of 128 x 128", kFp8, 8, 128, kBlockRows, true,
     "fp8_group", kFp8Runs},
    {"FP8A16", "", "FP8, a scale a row", kFp8, 8, -1, 1, true, kNone, kFp8A16Runs},
    {"NVFP4", "", "FP4, an FP8 scale for 16 weights", kFp4, 4, 16, 1, true, "nvfp4", kNvfp4Runs,
     kFp8Scales},
    {"NVFP4A16", "", "FP4, an FP8 scale for 16 weights", kFp4, 4, 16, 1, true, kNone, kNvfp4A16Runs,
     kFp8Scales},
    {"MXFP4", "", "FP4, a power of two for 32 weights", kFp4, 4, 32, 1, true, "mxfp4", kMxfp4Runs,
     kPowers},
    {"MXFP4A16", "", "FP4, a power of two for 32 weights", kFp4, 4, 32, 1, true, kNone,
     kMxfp4A16Runs, kPowers},
    {"MXFP4XFP8", "", "FP4, a power of two for 32 weights", kFp4, 4, 32, 1, true, "fp8_group",
     kMxfp4Xfp8Runs, kPowers},
    {"MXFP8", "", "FP8, a power of two for 32 weights", kFp8, 8, 32, 1, true, "mxfp8", kMxfp8Runs,
     kPowers},
    {"MXFP8A16", "", "FP8, a power of two for 32 weights", kFp8, 8, 32, 1, true, kNone,
     kMxfp8A16Runs, kPowers},
};

const Activations* find_activations(std::string_view name) {
  const auto found = std::ranges::find(kActivations, name, &Activations::name);
  return found == std::end(kActivations) ? nullptr : found;
}

template <typename Rows>
std::vector<std::string_view> names_of(const Rows& rows) {
  std::vector<std::string_view> names;
  for (const auto& row : rows) names.push_back(row.name);
  return names;
}

void refuse_name(std::string_view key, const std::string& name,
                 const std::vector<std::string_view>& known, Refusals& refusals) {
  refusals.add("E122", fmt::format("unknown {} '{}'; did you mean '{}'? ({})", key, name,
                                   nearest_name(name, known), fmt::join(known, ", ")));
}

// Integers with a scale for each token's inputs need no more than the tensors of the weights; a
// calibrated scale, and groups, have a place only beside floating-point weights.
bool go_together(const QuantizationRequest& weights, const InputGrid& inputs) {
  return weights.number ? inputs.number.has_value() : inputs.scale_of == Scale::kToken;
}

}  // namespace

std::span<const Activations> activations() { return kActivations; }
std::span<const Scheme> schemes() { return kSchemes; }

const Scheme* find_scheme(std::string_view name) {
  for (const Scheme& scheme : kSchemes)
    if (scheme.name == name || (!name.empty() && scheme.other == name)) return &scheme;
  return nullptr;
}

const Activations& activations_of(const std::optional<InputGrid>& inputs) {
  std::optional<InputGrid> wanted = inputs;
  if (wanted) wanted->scale = 0;
  const auto found = std::ranges::find(kActivations, wanted, &Activations::grid);
  return found == std::end(kActivations) ? kActivations[0] : *found;
}

const Scheme* scheme_of(const TensorPlan& planned) {
  if (!planned.grid) return nullptr;
  const quant::Grid& grid = *planned.grid;
  for (const Scheme& scheme : kSchemes)
    if (!scheme.runs_on.empty() && scheme.number == grid.number && scheme.bits == grid.bits &&
        scheme.scale_rows == grid.scale_rows && scheme.coded_scales == grid.coded_scales() &&
        scheme.activations == activations_of(planned.inputs).name)
      return &scheme;
  return nullptr;
}

QuantizationRequest with_scheme(const QuantizationRequest& quantization,
                                const ExportRequest& request, Refusals& refusals) {
  QuantizationRequest result = quantization;
  std::string_view chosen = request.activations == "auto" ? kNone : request.activations;
  const Scheme* scheme = find_scheme(request.scheme);
  if (scheme == nullptr && !request.scheme.empty())
    refuse_name("scheme", request.scheme, names_of(kSchemes), refusals);
  if (scheme != nullptr) {
    result.number = scheme->number;
    result.bits = scheme->bits;
    result.group_size = scheme->group_size;
    result.scale_rows = scheme->scale_rows;
    result.coded_scales = scheme->coded_scales;
    result.sym = scheme->sym;
    if (request.activations != "auto" && request.activations != scheme->activations)
      refusals.add("E133", fmt::format("scheme {} has activations: {}, but the export says "
                                       "activations: {}. Leave out one of the two keys.",
                                       scheme->name, scheme->activations, request.activations));
    chosen = scheme->activations;
  }
  const Activations* inputs = find_activations(chosen);
  if (inputs == nullptr) {
    refuse_name("activations", request.activations, names_of(kActivations), refusals);
    return result;
  }
  result.inputs = inputs->grid;
  if (result.inputs && !go_together(result, *result.inputs))
    refusals.add("E133",
                 fmt::format("activations: {} is for {} weights, but bits: {} makes integers. Name "
                             "a scheme (scheme: FP8), or write activations: int8_token or "
                             "fp8_token.",
                             inputs->name, info_of(SmallFloat::kE4M3).title, result.bits));
  return result;
}

}  // namespace calque::formats
