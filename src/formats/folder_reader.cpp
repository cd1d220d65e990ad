// Reads Hugging Face folders: plain checkpoints, and those in which some linears are packed.
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>

#include "calque/core/error.h"
#include "calque/model/family.h"
#include "calque/model/tied_head.h"
#include "formats/kv_layers.h"
#include "formats/open.h"
#include "formats/packed_config.h"
#include "formats/packed_format.h"

namespace calque::formats {
namespace {

std::string format_name(const std::optional<PackedSettings>& settings) {
  if (!settings) return "safetensors";
  return settings->stored_format.empty() ? std::string(settings->format->name)
                                         : settings->stored_format;
}

// Finds and checks every quantized linear, from headers alone. Missing parts, and dtypes and shapes
// that contradict the settings or each other, are Error(kInput) naming tensor and values. The
// results borrow from `checkpoint`.
std::vector<PackedModule> packed_modules(const io::SafetensorsCheckpoint& checkpoint,
                                         const PackedSettings& settings) {
  const PackedFormat& format = *settings.format->packed;
  std::vector<PackedModule> modules;
  std::set<std::string> seen;
  for (const io::TensorRef& tensor : checkpoint.tensors())
    for (const std::string_view marker : {format.marker, format.other_marker}) {
      if (marker.empty() || !tensor.name.ends_with(marker)) continue;
      const std::string module = tensor.name.substr(0, tensor.name.size() - marker.size());
      if (!seen.insert(module).second) continue;
      modules.push_back(format.open(checkpoint, module, settings));
      const std::vector<std::string>& parts = modules.back().parts;
      const std::string weight = module + ".weight";
      if (checkpoint.find(weight) != nullptr &&
          std::find(parts.begin(), parts.end(), weight) == parts.end())
        throw Error(ErrorKind::kInput, "E174",
                    fmt::format("module '{}' is stored twice: as '{}' and as '{}'", module,
                                tensor.name, weight));
    }
  if (modules.empty())
    throw Error(ErrorKind::kInput, "E174",
                fmt::format("{} declares quantized modules, but no tensor is named '*{}'",
                            settings.where, format.marker));
  return modules;
}

class FolderReader : public ArtifactReader {
 public:
  explicit FolderReader(const std::filesystem::path& folder)
      : checkpoint_(folder),
        config_(model::load_config(folder)),
        source_(checkpoint_, config_.stacked_experts) {
    const std::optional<PackedSettings> settings = packed_settings(folder, checkpoint_);
    format_ = format_name(settings);
    model::settle_names(source_, config_);
    model::settle_tied_head(source_, config_);
    if (!settings) return;
    if (settings->kv_scales)
      kv_scales_ = with_context(
          folder.string(), [&] { return read_kv_scales(checkpoint_, model::family_of(config_)); });
    for (PackedModule& module :
         with_context(folder.string(), [&] { return packed_modules(checkpoint_, *settings); })) {
      parts_.insert(module.parts.begin(), module.parts.end());
      const std::string name = module.weight_name;
      if (name == config_.names.head + ".weight") config_.tie_word_embeddings = false;
      modules_.emplace(name, std::move(module));
    }
  }

  const std::string& format() const override { return format_; }
  const model::ModelConfig& config() const override { return config_; }

  bool has(std::string_view tensor_name) const override {
    return modules_.find(tensor_name) != modules_.end() ||
           (source_.has(tensor_name) && parts_.find(tensor_name) == parts_.end());
  }

  Matrix<float> load(std::string_view tensor_name) const override {
    if (const std::optional<quant::QuantizedMatrix> q = quantized(tensor_name))
      return quant::dequantize(*q);
    return source_.load(tensor_name);
  }
  Matrix<float> load_rows(std::string_view tensor_name,
                          std::span<const Index> rows_U) const override {
    if (modules_.find(tensor_name) != modules_.end())
      return WeightSource::load_rows(tensor_name, rows_U);
    return source_.load_rows(tensor_name, rows_U);
  }

  std::optional<quant::QuantizedMatrix> quantized(std::string_view tensor_name) const override {
    const auto found = modules_.find(tensor_name);
    if (found == modules_.end()) return std::nullopt;
    quant::QuantizedMatrix unpacked = found->second.unpack();
    for (const std::string& part : found->second.parts) {
      const io::TensorRef& tensor = checkpoint_.at(part);
      tensor.file->drop(tensor.bytes);
    }
    return unpacked;
  }

  InputGrids inputs() const override {
    InputGrids grids;
    for (const auto& [name, module] : modules_)
      if (module.inputs) grids.emplace(name, *module.inputs);
    return grids;
  }

  KvNumbersByLayer kv_scales() const override { return kv_scales_; }

  std::vector<StoredTensor> tensors() const override {
    std::vector<StoredTensor> result;
    for (const auto& [name, module] : modules_)
      result.push_back(
          {name, module.stored_as, {module.out_features, module.in_features}, module.bytes});
    for (const model::SourceTensor& tensor : source_.tensors())
      if (parts_.find(tensor.name) == parts_.end()) {
        const std::string_view dtype = tensor.in_mxfp4 ? "MXFP4" : name_of(tensor.dtype);
        result.push_back({tensor.name, std::string(dtype), tensor.shape, tensor.stored_bytes()});
      }
    return result;
  }

  std::uint64_t file_bytes() const override {
    std::uint64_t bytes = 0;
    for (const std::filesystem::path& file : checkpoint_.files())
      bytes += std::filesystem::file_size(file);
    return bytes;
  }

 private:
  io::SafetensorsCheckpoint checkpoint_;
  model::ModelConfig config_;
  const model::CheckpointSource source_;
  std::string format_;
  std::map<std::string, PackedModule, std::less<>> modules_;  // by weight name
  std::set<std::string, std::less<>> parts_;                  // tensors that belong to modules
  KvNumbersByLayer kv_scales_;                                // empty: none
};

}  // namespace

std::unique_ptr<ArtifactReader> open_folder(const std::filesystem::path& folder) {
  refuse_unknown_method(folder);
  return std::make_unique<FolderReader>(folder);
}

}  // namespace calque::formats
