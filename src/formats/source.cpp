#include "calque/formats/source.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <map>

#include "calque/core/error.h"
#include "formats/open.h"

namespace calque::formats {
namespace {

const ggml::TypeInfo& type_of(const StoredTensor& tensor) {
  return *ggml::find_type(tensor.stored_as);
}

bool is_plain(const StoredTensor& tensor) {
  return type_of(tensor).support == ggml::Support::kPlain;
}

// The dtype in which a tensor is provided: F32 if it is quantized.
DType given_dtype(const StoredTensor& tensor) {
  return is_plain(tensor) ? ggml::dtype_of(type_of(tensor).type) : DType::kF32;
}

// True for tensors whose values are already in the configuration.
bool is_rope_table(std::string_view name) {
  return name.starts_with("rope_freqs.") || name.starts_with("rope_factors_");
}

std::vector<StoredTensor> weights_of(const ArtifactReader& reader) {
  std::vector<StoredTensor> tensors = reader.tensors();
  std::erase_if(tensors, [](const StoredTensor& tensor) { return is_rope_table(tensor.name); });
  return tensors;
}

std::vector<model::SourceTensor> headers_of(const ArtifactReader& reader) {
  std::vector<model::SourceTensor> headers;
  for (const StoredTensor& tensor : weights_of(reader))
    headers.push_back({tensor.name, given_dtype(tensor), tensor.shape});
  return headers;
}

class GgufSource : public model::ModelSource {
 public:
  GgufSource(const std::filesystem::path& path, std::unique_ptr<ArtifactReader> reader)
      : ModelSource(path.string(), headers_of(*reader)), file_(path), reader_(std::move(reader)) {
    for (const StoredTensor& tensor : weights_of(*reader_)) stored_bytes_ += tensor.bytes;
    for (const model::TensorSpec& spec : model::family_of(reader_->config()).tensors())
      if (is_stored_as_is(spec)) as_is_.emplace(spec.name, file_.find_tensor(spec.gguf_name));
  }

  const model::ModelConfig& config() const { return reader_->config(); }
  const io::GgufMetadata& metadata() const { return file_.metadata(); }

  std::uint64_t total_bytes() const override { return stored_bytes_; }
  Matrix<float> load(std::string_view tensor_name) const override {
    return reader_->load(at(tensor_name).name);
  }
  Matrix<float> load_rows(std::string_view tensor_name,
                          std::span<const Index> rows_U) const override {
    return reader_->load_rows(at(tensor_name).name, rows_U);
  }

  model::TensorBytes bytes(std::string_view tensor_name) const override {
    const model::SourceTensor& tensor = at(tensor_name);
    if (const auto found = as_is_.find(tensor_name); found != as_is_.end())
      return {found->second->bytes, found->second->file};
    const Matrix<float> values = load(tensor_name);
    std::vector<std::byte> bytes(tensor.byte_count());
    convert_from_float(values.data(), tensor.dtype, static_cast<std::size_t>(values.size()),
                       bytes.data());
    return model::TensorBytes(std::move(bytes));
  }

 private:
  bool is_stored_as_is(const model::TensorSpec& spec) const {
    const io::GgufTensor* stored = file_.find_tensor(spec.gguf_name);
    return stored != nullptr && ggml::info_of(stored->type).support == ggml::Support::kPlain &&
           spec.gguf_permuted_heads == 0 && !spec.gguf_plus_one && spec.gguf_expert < 0;
  }

  io::GgufFile file_;
  std::unique_ptr<ArtifactReader> reader_;
  std::map<std::string, const io::GgufTensor*, std::less<>> as_is_;  // by Hugging Face name
  std::uint64_t stored_bytes_ = 0;
};

void refuse_quantized(const std::filesystem::path& path, const ArtifactReader& reader) {
  std::map<std::string, int> types;
  for (const StoredTensor& tensor : reader.tensors())
    if (!is_plain(tensor)) ++types[tensor.stored_as];
  if (types.empty()) return;
  std::vector<std::string> counts;
  for (const auto& [type, count] : types)
    counts.push_back(fmt::format("{} ({} tensor{})", type, count, count == 1 ? "" : "s"));
  throw Error(
      ErrorKind::kInput, "E169",
      fmt::format("{} is already quantized: {}. Quantizing it again adds a second loss; use the "
                  "original (F32, F16 or BF16), or set model.allow_requantize: true",
                  path.string(), fmt::join(counts, ", ")));
}

OpenedModel open_gguf_model(const std::filesystem::path& path, bool allow_requantize) {
  std::unique_ptr<ArtifactReader> reader = open_artifact(path);
  if (!allow_requantize) refuse_quantized(path, *reader);
  auto source = std::make_unique<GgufSource>(path, std::move(reader));
  model::ModelConfig config = source->config();
  io::GgufMetadata metadata = source->metadata();
  return {std::move(source), std::move(config), std::move(metadata)};
}

}  // namespace

OpenedModel open_model(const std::filesystem::path& given, bool allow_requantize) {
  const std::filesystem::path path = weights_path(given);
  if (std::filesystem::is_directory(path))
    return {std::make_unique<model::CheckpointSource>(path), model::load_config(path), {}};
  return open_gguf_model(path, allow_requantize);
}

SourceModel::SourceModel(const std::filesystem::path& path, bool allow_requantize)
    : SourceModel(open_model(path, allow_requantize)) {}

SourceModel::SourceModel(OpenedModel opened)
    : weights(std::move(opened.weights)),
      family(model::family_of(opened.config)),
      metadata(std::move(opened.metadata)) {
  model::check_against_family(*weights, family);
}

double SourceModel::bits_per_weight() const {
  double elements = 0;
  for (const model::SourceTensor& tensor : weights->tensors())
    elements += static_cast<double>(tensor.element_count());
  return 8.0 * static_cast<double>(weights->total_bytes()) / elements;
}

}  // namespace calque::formats
