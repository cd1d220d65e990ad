#include "calque/formats/source.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <map>
#include <span>

#include "calque/core/error.h"
#include "calque/core/names.h"
#include "calque/core/quote.h"
#include "calque/formats/side_files.h"
#include "calque/io/file.h"
#include "calque/io/json.h"
#include "calque/model/tied_head.h"
#include "formats/gguf_architectures.h"
#include "formats/open.h"

namespace calque::formats {
namespace {

const ggml::TypeInfo& type_of(const StoredTensor& tensor) {
  return *ggml::find_type(tensor.stored_as);
}

bool is_plain(const StoredTensor& tensor) {
  return type_of(tensor).support == ggml::Support::kPlain;
}

bool is_mxfp4(const StoredTensor& tensor) { return type_of(tensor).type == ggml::Type::kMXFP4; }

// The dtype in which a tensor is provided: F32 if it is quantized, but for MXFP4.
DType given_dtype(const StoredTensor& tensor) {
  if (is_mxfp4(tensor)) return DType::kBF16;
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
    headers.push_back({tensor.name, given_dtype(tensor), tensor.shape, is_mxfp4(tensor)});
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

  std::vector<std::byte> mxfp4_blocks(std::string_view tensor_name) const override {
    if (!at(tensor_name).in_mxfp4) return ModelSource::mxfp4_blocks(tensor_name);
    const auto stored = reader_->quantized(at(tensor_name).name);
    const Matrix<std::uint8_t>& rows = stored->blocks().rows_NB;
    const auto bytes = std::as_bytes(std::span(rows.data(), static_cast<std::size_t>(rows.size())));
    return {bytes.begin(), bytes.end()};
  }

 private:
  bool is_stored_as_is(const model::TensorSpec& spec) const {
    const io::GgufTensor* stored = file_.find_tensor(spec.gguf_name);
    return stored != nullptr && ggml::info_of(stored->type).support == ggml::Support::kPlain &&
           spec.same_in_gguf() && spec.gguf_expert < 0;
  }

  io::GgufFile file_;
  std::unique_ptr<ArtifactReader> reader_;
  std::map<std::string, const io::GgufTensor*, std::less<>> as_is_;  // by Hugging Face name
  std::uint64_t stored_bytes_ = 0;
};

void refuse_quantized(const std::filesystem::path& path, const ArtifactReader& reader) {
  std::map<std::string, int> types;
  const GgufExperts experts = gguf_experts(model::family_of(reader.config()).gguf_architecture);
  for (const StoredTensor& tensor : reader.tensors())
    if (!is_plain(tensor) && !(experts.in_mxfp4 && is_mxfp4(tensor))) ++types[tensor.stored_as];
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

std::string_view long_name_of(DType dtype) {
  if (dtype == DType::kF16) return "float16";
  if (dtype == DType::kBF16) return "bfloat16";
  return dtype == DType::kF32 ? "float32" : name_of(dtype);
}

// transformers converts weights to the configured dtype when it loads them.
void remark_dtype(const model::ModelSource& source, model::ModelConfig& config) {
  const model::SourceTensor* embedding = source.find(config.names.model + ".embed_tokens.weight");
  if (embedding == nullptr || config.dtype.empty()) return;
  const std::string stored(long_name_of(embedding->dtype));
  if (stored == config.dtype) return;
  config.remarks.push_back(
      fmt::format("config.json says dtype {}, but the weights are stored in {}: they are read as "
                  "stored, while transformers converts them",
                  config.dtype, stored));
}

// The tensors of packed and scaled weights.
bool holds_quantized_tensors(const std::filesystem::path& folder, model::StackedExperts experts) {
  try {
    const model::CheckpointSource source(folder, experts);
    return std::any_of(
        source.tensors().begin(), source.tensors().end(), [](const model::SourceTensor& tensor) {
          return !is_floating(tensor.dtype) || tensor.name.ends_with("_scale") ||
                 tensor.name.ends_with("_scale_inv") || tensor.name.ends_with(".scales") ||
                 tensor.name.find(".absmax") != std::string::npos;
        });
  } catch (const Error&) {
    return true;  // dtypes that no plain checkpoint has
  }
}

std::string way_out(const std::filesystem::path& folder) {
  try {
    open_artifact(folder);
  } catch (const Error& error) {
    return fmt::format("Use the original model (calque dequantize cannot read this one: {})",
                       error.what());
  }
  return fmt::format(
      "Use the original model, or write this one as plain weights: calque dequantize "
      "{} --out FOLDER",
      shell_quoted(folder));
}

// The layout of experts, by which those in MXFP4 are decoded as they are read.
model::StackedExperts layout_of(const std::filesystem::path& folder) {
  try {
    return model::load_config(folder).stacked_experts;
  } catch (const Error&) {
    return model::StackedExperts::kNone;  // it will be refused
  }
}

// A folder that config.json calls quantized. If its weights are plain after all, says so in
// `remarks`.
void refuse_quantized(const std::filesystem::path& folder, std::vector<std::string>& remarks) {
  const io::Json config = io::read_json(folder / "config.json");
  const io::Json* settings = config.find("quantization_config");
  const char* where = "config.json, quantization_config";
  if (settings == nullptr && (settings = config.find("quantization")) != nullptr)
    where = "config.json, quantization";
  io::Json other;
  for (const char* name : {"quantize_config.json", "quant_config.json", "hf_quant_config.json"})
    if (settings == nullptr && std::filesystem::exists(folder / name)) {
      other = io::read_json_if_present(folder / name);
      settings = &other;
      where = name;
    }
  if (settings == nullptr || settings->is_null()) return;
  const io::Json* method = settings->find("quant_method");
  const std::string named = method == nullptr || !method->is_string()
                                ? std::string()
                                : fmt::format(", quant_method {}", quote_name(method->string()));
  if (holds_quantized_tensors(folder, layout_of(folder)))
    throw Error(ErrorKind::kInput, "E169",
                fmt::format("{} is already quantized ({}{}). {}", folder.string(), where, named,
                            way_out(folder)));
  if (method != nullptr && *method == io::Json("mxfp4")) {
    remarks.push_back(fmt::format(
        "{}{}: experts are read as BF16, which holds every value of MXFP4", where, named));
    return;
  }
  remarks.push_back(
      fmt::format("{}{}: the weights are not quantized, so this is not read", where, named));
}

// The single file takes precedence over an index, as in transformers.
void remark_unread_index(const std::filesystem::path& folder, model::ModelConfig& config) {
  constexpr const char* kIndex = "model.safetensors.index.json";
  constexpr const char* kSingle = "model.safetensors";
  if (!std::filesystem::exists(folder / kSingle) || !std::filesystem::exists(folder / kIndex))
    return;
  const io::Json index =
      io::parse_json_if_valid(io::read_file(folder / kIndex)).value_or(io::Json());
  const io::Json* files = index.find("weight_map");
  if (files != nullptr && files->is_object() &&
      std::all_of(files->members().begin(), files->members().end(),
                  [](const io::Json::Member& member) { return member.value == io::Json(kSingle); }))
    return;
  config.remarks.push_back(fmt::format(
      "{} is read, as in transformers, and {}, which names other files, is not", kSingle, kIndex));
}

OpenedModel open_folder_model(const std::filesystem::path& folder) {
  std::vector<std::string> remarks;
  if (std::filesystem::exists(folder / "config.json")) refuse_quantized(folder, remarks);
  model::ModelConfig config = model::load_config(folder);
  auto source = std::make_unique<model::CheckpointSource>(folder, config.stacked_experts);
  model::settle_names(*source, config);
  model::settle_tied_head(*source, config);
  remark_dtype(*source, config);
  remark_unread_index(folder, config);
  config.remarks.insert(config.remarks.end(), remarks.begin(), remarks.end());
  return {std::move(source), std::move(config), {}, side_files(folder).left_out};
}

OpenedModel open_gguf_model(const std::filesystem::path& path, bool allow_requantize) {
  std::unique_ptr<ArtifactReader> reader = open_artifact(path);
  if (!allow_requantize) refuse_quantized(path, *reader);
  auto source = std::make_unique<GgufSource>(path, std::move(reader));
  model::ModelConfig config = source->config();
  io::GgufMetadata metadata = source->metadata();
  return {std::move(source), std::move(config), std::move(metadata), {}};
}

}  // namespace

OpenedModel open_model(const std::filesystem::path& given, bool allow_requantize) {
  const std::filesystem::path path = weights_path(given);
  if (std::filesystem::is_directory(path)) return open_folder_model(path);
  return open_gguf_model(path, allow_requantize);
}

SourceModel::SourceModel(const std::filesystem::path& path, bool allow_requantize)
    : SourceModel(open_model(path, allow_requantize)) {}

SourceModel::SourceModel(OpenedModel opened)
    : weights(std::move(opened.weights)),
      family(model::family_of(opened.config)),
      metadata(std::move(opened.metadata)),
      left_out(std::move(opened.left_out)) {
  if (!is_gguf()) model::carry_others(*weights, family);
  model::check_against_family(*weights, family);
}

double SourceModel::bits_per_weight() const {
  double elements = 0;
  for (const model::SourceTensor& tensor : weights->tensors())
    elements += static_cast<double>(tensor.element_count());
  return 8.0 * static_cast<double>(weights->total_bytes()) / elements;
}

}  // namespace calque::formats
