// Writes folders of safetensors with packed linears: one writer for all formats.
#include <fmt/format.h>

#include <algorithm>

#include "calque/core/error.h"
#include "calque/formats/checkpoint_config.h"
#include "calque/formats/conversion.h"
#include "calque/formats/side_files.h"
#include "calque/io/file.h"
#include "calque/io/safetensors.h"
#include "calque/model/tied_head.h"
#include "formats/kv_layers.h"
#include "formats/packed_format.h"
#include "formats/written_tensors.h"

namespace calque::formats {
namespace {

using io::Json;

// The stored tensors of a planned tensor.
std::vector<io::TensorDeclaration> parts_of(const TensorPlan& planned, const PackedFormat& format,
                                            const model::ModelSource& source) {
  const model::TensorSpec& tensor = planned.tensor;
  if (!planned.is_written()) return {};
  if (!planned.grid) return {{tensor.name, source.at(tensor.name).dtype, tensor.shape}};
  return format.declare(module_of(tensor.name), tensor.shape[0], tensor.shape[1],
                        {*planned.grid, planned.inputs});
}

std::vector<io::TensorDeclaration> declarations(const ExportPlan& plan, const PackedFormat& format,
                                                const WriterInputs& inputs) {
  std::vector<io::TensorDeclaration> result;
  for (const TensorPlan& planned : plan.tensors)
    for (io::TensorDeclaration& part : parts_of(planned, format, inputs.source))
      result.push_back(std::move(part));
  for (io::TensorDeclaration& part : kv_declarations(plan.request, inputs.family, inputs.source))
    result.push_back(std::move(part));
  return result;
}

bool starts_from_gguf(const WriterInputs& inputs) { return inputs.carried != nullptr; }

// The source's config with its keys in order.
Json config_of(const WriterInputs& inputs) {
  const model::ModelConfig& model = inputs.family.config;
  if (starts_from_gguf(inputs))
    return io::parse_json(generated_config_json(inputs.family, inputs.source));
  const std::filesystem::path path = inputs.model_folder / "config.json";
  Json config = io::parse_json_if_valid(io::read_file(path)).value_or(Json());
  if (!config.is_object())
    throw Error(ErrorKind::kInput, "E174", fmt::format("{}: no JSON object", path.string()));
  if (!model.tie_word_embeddings && model::ties_head(config)) config["tie_word_embeddings"] = false;
  return config;
}

// Files by name, with their contents.
using SettingsFiles = std::vector<std::pair<std::string, std::string>>;

SettingsFiles settings_files(const ExportPlan& plan, const WriterInputs& inputs,
                             const FolderContents& contents) {
  const PackedFormat& format = *format_of(plan.request).packed;
  const Json quantization = format.write_config(contents, inputs.provenance);
  Json config = config_of(inputs);
  if (format.complete_config != nullptr) format.complete_config(inputs.family.config, config);
  if (!format.config_key.empty()) config[std::string(format.config_key)] = quantization;
  config["quantization_config"] = quantization;
  SettingsFiles files = {{"config.json", config.dump(2) + "\n"}};
  if (format.writes_quantize_config)
    files.emplace_back("quantize_config.json", quantization.dump(2) + "\n");
  if (starts_from_gguf(inputs) && inputs.vocabulary != nullptr)
    for (auto& file :
         text::tokenizer_files(*inputs.vocabulary, inputs.model_folder.filename().string(),
                               inputs.family.config.max_positions))
      files.push_back(std::move(file));
  return files;
}

// A GGUF file has no files beside it that belong to the model.
std::vector<std::filesystem::path> copied_files(const WriterInputs& inputs) {
  if (starts_from_gguf(inputs)) return {};
  return side_files(inputs.model_folder).copied;
}

// Refuses to replace the folder that is being read.
void refuse_source_folder(const ExportRequest& request, const std::filesystem::path& source) {
  std::error_code missing;
  if (!std::filesystem::equivalent(request.path, source, missing)) return;
  throw Error(ErrorKind::kConfig, "E172",
              fmt::format("{} is the model itself: choose another folder for the {} export",
                          request.path.string(), request.format));
}

class PackedWriter : public ArtifactWriter {
 public:
  PackedWriter(const ExportPlan& plan, const WriterInputs& inputs)
      : plan_(plan),
        inputs_(inputs),
        written_(plan_),
        kv_tensors_(kv_declarations(plan_.request, inputs_.family, inputs_.source)),
        contents_(contents_of(plan_, inputs_.family)),
        format_(*format_of(plan_.request).packed),
        folder_(open_folder(plan_.request, inputs_.kept)),
        weights_(open_weights(declarations(plan_, format_, inputs_))) {
    if (inputs_.kept != nullptr) go_on_from(*inputs_.kept);
  }

  void write(const std::string& tensor_name, const quant::QuantizedMatrix& q) override {
    written_.accept(tensor_name, q);
    const std::vector<NamedBytes> parts =
        with_context(tensor_name, [&] { return pack(tensor_name, q); });
    for (const NamedBytes& part : parts) weights_->write(part.name, part.bytes);
  }

  void write_dense(const std::string& tensor_name, MatrixView<const float> values) override {
    written_.accept_dense(tensor_name, values);
    const DType dtype = inputs_.source.at(tensor_name).dtype;
    const auto count = static_cast<std::size_t>(values.size());
    std::vector<std::byte> bytes(count * size_of(dtype));
    const Matrix<float> packed = Matrix<float>::copy_of(values);
    convert_from_float(packed.data(), dtype, count, bytes.data());
    require_stored(tensor_name, packed, dtype, bytes, "The checkpoint stores it in this type");
    weights_->write(tensor_name, bytes);
  }

  void write_kv_peaks(Index layer, const KvNumbers& largest) override {
    if (kv_tensors_.empty()) return;
    for (const KvLayer& known : kv_layers(inputs_.family)) {
      if (known.layer != layer) continue;
      write_kv_scales(known.attention + ".k_scale", largest.keys);
      write_kv_scales(known.attention + ".v_scale", largest.values);
    }
  }

  std::string keep() override {
    weights_->keep();
    Json notes = {{"folder", folder_->keep()}};
    if (!kv_written_.empty()) notes["kv_scales"] = kv_written_;
    return notes.dump();
  }

  void finish() override {
    written_.require_complete();
    for (const TensorPlan* planned : written_.to_copy()) copy(planned->tensor.name);
    weights_->finish();
    write_settings();
    for (const std::filesystem::path& file : copied_files(inputs_))
      io::copy_file(inputs_.model_folder / file, folder_->staging() / file);
    folder_->commit();
  }

 private:
  static std::unique_ptr<io::AtomicFolder> open_folder(const ExportRequest& request,
                                                       const KeptArtifact* kept) {
    if (kept == nullptr) return std::make_unique<io::AtomicFolder>(request.path, request.overwrite);
    const std::string identity = io::parse_json(kept->notes).at("folder").string();
    return std::make_unique<io::AtomicFolder>(request.path, request.overwrite, identity);
  }

  std::unique_ptr<io::SafetensorsWriter> open_weights(
      std::vector<io::TensorDeclaration> tensors) const {
    const std::uint64_t limit = plan_.request.max_shard_bytes;
    if (inputs_.kept == nullptr)
      return std::make_unique<io::SafetensorsWriter>(folder_->staging(), std::move(tensors), limit);
    return std::make_unique<io::SafetensorsWriter>(io::GoOn{}, folder_->staging(),
                                                   std::move(tensors), limit);
  }

  void go_on_from(const KeptArtifact& kept) {
    for (const std::string& name : kept.tensors) {
      const TensorPlan& planned = written_.mark_given(name);
      for (const io::TensorDeclaration& part : parts_of(planned, format_, inputs_.source))
        weights_->mark_written(part.name);
    }
    const Json notes = io::parse_json(kept.notes);
    const Json* scales = notes.find("kv_scales");
    if (scales == nullptr) return;
    for (const Json& name : scales->elements()) {
      kv_written_.push_back(name.string());
      weights_->mark_written(name.string());
    }
  }

  void write_kv_scales(const std::string& name, const std::vector<float>& largest_H) {
    const auto declared = std::ranges::find(kv_tensors_, name, &io::TensorDeclaration::name);
    const std::vector<float> scales =
        kv_scales(largest_H, plan_.request.has_scale_a_head(), declared->dtype);
    std::vector<std::byte> bytes(scales.size() * size_of(declared->dtype));
    convert_from_float(scales.data(), declared->dtype, scales.size(), bytes.data());
    weights_->write(name, bytes);
    kv_written_.push_back(name);
  }

  std::vector<NamedBytes> pack(const std::string& tensor_name,
                               const quant::QuantizedMatrix& q) const {
    const Packing packing = {contents_.checkpoint_format, contents_.all_sym,
                             plan_.at(tensor_name).inputs, inputs_.pack};
    return format_.pack(module_of(tensor_name), q, packing);
  }

  void copy(const std::string& tensor_name) {
    const model::TensorBytes source = inputs_.source.bytes(tensor_name);
    model::require_finite(inputs_.source.at(tensor_name), source.get());
    weights_->write(tensor_name, source.get());
  }

  void write_settings() const {
    for (const auto& [name, text] : settings_files(plan_, inputs_, contents_))
      io::write_file(folder_->staging() / name, text);
  }

  const ExportPlan plan_;
  const WriterInputs inputs_;
  WrittenTensors written_;
  const std::vector<io::TensorDeclaration> kv_tensors_;  // empty: no scales of keys and values
  std::vector<std::string> kv_written_;
  const FolderContents contents_;
  const PackedFormat& format_;
  // Declared in this order so that the unfinished weights are removed before their folder.
  const std::unique_ptr<io::AtomicFolder> folder_;
  const std::unique_ptr<io::SafetensorsWriter> weights_;
};

}  // namespace

std::unique_ptr<ArtifactWriter> open_packed_writer(const ExportPlan& plan,
                                                   const WriterInputs& inputs) {
  refuse_source_folder(plan.request, inputs.model_folder);
  return std::make_unique<PackedWriter>(plan, inputs);
}

std::vector<PlannedFile> packed_files(const ExportPlan& plan, const WriterInputs& inputs) {
  const FolderContents contents = contents_of(plan, inputs.family);
  const PackedFormat& format = *format_of(plan.request).packed;
  std::vector<PlannedFile> files;
  for (const auto& [name, bytes] :
       io::safetensors_file_sizes(declarations(plan, format, inputs), plan.request.max_shard_bytes))
    files.push_back({name, bytes, name.ends_with(".safetensors")});
  for (const auto& [name, text] : settings_files(plan, inputs, contents))
    files.push_back({name, text.size()});
  for (const std::filesystem::path& file : copied_files(inputs))
    files.push_back({file.string(), std::filesystem::file_size(inputs.model_folder / file)});
  return files;
}

}  // namespace calque::formats
