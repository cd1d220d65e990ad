#include "calque/model/weight_source.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <functional>
#include <numeric>
#include <optional>
#include <set>
#include <utility>

#include "calque/core/error.h"
#include "calque/core/finite.h"
#include "calque/core/parallel.h"

namespace calque::model {
namespace {

// A wrong family can disagree with every tensor; the first few are enough to see why.
constexpr std::size_t kFaultsShown = 20;

std::string fault_list(const std::vector<std::string>& faults) {
  const std::size_t shown = std::min(faults.size(), kFaultsShown);
  std::string text;
  for (std::size_t i = 0; i < shown; ++i) text += "\n  " + faults[i];
  if (shown < faults.size()) text += fmt::format("\n  and {} more", faults.size() - shown);
  return text;
}

std::string shape_text(const std::vector<Index>& shape) {
  return fmt::format("[{}]", fmt::join(shape, ", "));
}

std::string fault_of(const SourceTensor* found, const TensorSpec& wanted) {
  if (found == nullptr) return fmt::format("{} {}: missing", wanted.name, shape_text(wanted.shape));
  if (found->shape != wanted.shape)
    return fmt::format("{}: shape is {}, config.json asks for {}", wanted.name,
                       shape_text(found->shape), shape_text(wanted.shape));
  if (!is_floating(found->dtype))
    return fmt::format(
        "{}: dtype is {}, not a floating-point type; is the checkpoint already quantized?",
        wanted.name, calque::name_of(found->dtype));
  return {};
}

// Parts of models of several parts, and of layers that predict further tokens.
bool is_known_part(std::string_view part) {
  constexpr std::string_view kParts[] = {
      "visual",      "vision_tower", "vision_model", "multi_modal_projector", "embed_vision",
      "audio_tower", "embed_audio",  "mtp",          "mm_projector"};
  return std::find(std::begin(kParts), std::end(kParts), part) != std::end(kParts) ||
         part.starts_with("layers.");
}

bool is_in_block(const FamilySpec& family, std::string_view tensor_name) {
  return std::any_of(family.blocks.begin(), family.blocks.end(), [&](const BlockSpec& block) {
    return tensor_name.starts_with(block.name + ".");
  });
}

[[noreturn]] void refuse_weight(std::string_view name, Index row, Index column, double value) {
  throw Error(ErrorKind::kInput, "E164",
              fmt::format("{}: row {}, column {} is {}; the checkpoint is damaged or its training "
                          "diverged. Download or convert it again.",
                          name, row, column, unsigned_nan(value)));
}

Matrix<float> load_checked(const WeightSource& source, const TensorSpec& spec) {
  Matrix<float> value = source.load(spec.name);
  const bool vector = spec.shape.size() == 1;
  const Index rows = vector ? 1
                            : std::accumulate(spec.shape.begin(), spec.shape.end() - 1, Index{1},
                                              std::multiplies<>());
  if (value.rows() != rows || value.cols() != spec.shape.back())
    throw Error(ErrorKind::kInput, "E163",
                fmt::format("{}: shape is [{}, {}], config.json asks for {}", spec.name,
                            value.rows(), value.cols(), shape_text(spec.shape)));
  require_finite(spec.name, value);
  return value;
}

[[noreturn]] void refuse_unknown(const std::string& tensor_name) {
  throw Error(ErrorKind::kInternal, "", fmt::format("no weight '{}' in this block", tensor_name));
}

}  // namespace

void require_finite(std::string_view tensor_name, MatrixView<const float> values, Index first_row) {
  for (Index r = 0; r < values.rows(); ++r)
    if (const std::optional<std::size_t> c = first_nonfinite<float>(values.row_span(r)))
      refuse_weight(tensor_name, first_row + r, static_cast<Index>(*c), values.row(r)[*c]);
}

void require_finite(const SourceTensor& tensor, std::span<const std::byte> stored) {
  const std::optional<std::size_t> found = first_nonfinite(stored, tensor.dtype);
  if (!found) return;
  float value = 0;
  convert_to_float(stored.data() + *found * size_of(tensor.dtype), tensor.dtype, 1, &value);
  const auto at = static_cast<Index>(*found);
  const Index columns = tensor.shape.empty() ? 1 : tensor.shape.back();
  refuse_weight(tensor.name, at / columns, at % columns, value);
}

Matrix<float> WeightSource::load_rows(std::string_view tensor_name,
                                      std::span<const Index> rows_U) const {
  const Matrix<float> all = load(tensor_name);
  auto result = Matrix<float>::uninitialized(static_cast<Index>(rows_U.size()), all.cols());
  for (Index u = 0; u < result.rows(); ++u)
    std::copy_n(all.row(rows_U[static_cast<std::size_t>(u)]), all.cols(), result.row(u));
  return result;
}

void settle_names(const ModelSource& source, ModelConfig& config) {
  for (const char* model : {"model", "language_model.model", "model.language_model"})
    if (source.has(std::string(model) + ".embed_tokens.weight")) config.names.model = model;
  // A packed head has tensors of other names.
  for (const char* head : {"language_model.lm_head", "lm_head"})
    for (const SourceTensor& tensor : source.tensors())
      if (tensor.name.starts_with(std::string(head) + ".")) config.names.head = head;
}

void carry_others(const ModelSource& source, FamilySpec& family) {
  std::set<std::string> known;
  for (TensorSpec& spec : family.tensors()) known.insert(std::move(spec.name));
  std::set<std::string> strange;
  for (const SourceTensor& tensor : source.tensors()) {
    if (known.contains(tensor.name) || family.ignores(tensor.name)) continue;
    if (is_in_block(family, tensor.name)) continue;
    family.carried.push_back({.name = tensor.name, .shape = tensor.shape});
    const std::string part = part_of(tensor.name);
    if (!is_known_part(part)) strange.insert(part);
  }
  if (!strange.empty())
    family.config.remarks.push_back(
        fmt::format("tensors that {} does not know are copied as they are: {}",
                    family.config.architecture, fmt::join(strange, ", ")));
}

void check_against_family(const ModelSource& source, const FamilySpec& family) {
  std::vector<std::string> faults;
  std::set<std::string_view> known;
  const std::vector<TensorSpec> wanted = family.tensors();
  for (const TensorSpec& spec : wanted) {
    known.insert(spec.name);
    if (std::string fault = fault_of(source.find(spec.name), spec); !fault.empty())
      faults.push_back(std::move(fault));
  }
  // Tensors of unknown parts are told beside missing ones: they may be the same under other names.
  for (const TensorSpec& spec : family.carried)
    if (faults.empty() || is_known_part(part_of(spec.name))) known.insert(spec.name);
  for (const SourceTensor& tensor : source.tensors())
    if (!known.contains(tensor.name) && !family.ignores(tensor.name))
      faults.push_back(fmt::format("{} {}: unexpected", tensor.name, shape_text(tensor.shape)));
  if (faults.empty()) return;
  throw Error(
      ErrorKind::kInput, "E163",
      fmt::format("the model does not fit its configuration ({}, family {}), {} of its "
                  "tensors differ:{}",
                  family.config.architecture, family.name, faults.size(), fault_list(faults)));
}

MatrixView<const float> BlockWeights::at(const std::string& tensor_name) const {
  const auto found = tensors_.find(tensor_name);
  if (found == tensors_.end()) refuse_unknown(tensor_name);
  return found->second.view();
}

MatrixView<float> BlockWeights::at(const std::string& tensor_name) {
  const auto found = tensors_.find(tensor_name);
  if (found == tensors_.end()) refuse_unknown(tensor_name);
  return found->second.view();
}

Matrix<float> BlockWeights::take(const std::string& tensor_name) {
  auto node = tensors_.extract(tensor_name);
  if (node.empty()) refuse_unknown(tensor_name);
  return std::move(node.mapped());
}

void BlockWeights::put(const std::string& tensor_name, Matrix<float> value) {
  tensors_.insert_or_assign(tensor_name, std::move(value));
}

BlockWeights load_block(const WeightSource& source, const BlockSpec& block) {
  const std::vector<TensorSpec> specs = block.tensors();
  std::vector<Matrix<float>> values(specs.size());
  parallel_for(static_cast<Index>(specs.size()), 0, [&](Index i) {
    const auto at = static_cast<std::size_t>(i);
    values[at] = load_checked(source, specs[at]);
  });
  BlockWeights weights;
  for (std::size_t i = 0; i < specs.size(); ++i) weights.put(specs[i].name, std::move(values[i]));
  return weights;
}

}  // namespace calque::model
