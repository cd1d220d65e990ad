#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "artifact/formats.h"
#include "artifact/gptq_layout.h"
#include "artifact/intake.h"
#include "artifact/side_files.h"
#include "calque/core/error.h"
#include "calque/io/file.h"

namespace calque::artifact {
namespace {

using Json = nlohmann::ordered_json;

std::vector<io::TensorDeclaration> declarations(const ExportPlan& plan,
                                                const io::SafetensorsCheckpoint& checkpoint) {
  std::vector<io::TensorDeclaration> result;
  for (const TensorPlan& planned : plan.tensors) {
    const model::TensorSpec& tensor = planned.tensor;
    if (!planned.grid) {
      result.push_back({tensor.name, checkpoint.at(tensor.name).dtype, tensor.shape});
      continue;
    }
    for (io::TensorDeclaration& part :
         gptq_declarations(tensor.name, tensor.shape[0], tensor.shape[1], *planned.grid))
      result.push_back(std::move(part));
  }
  return result;
}

const quant::Grid& grid_of(const ExportPlan& plan) {
  const auto found = std::find_if(plan.tensors.begin(), plan.tensors.end(),
                                  [](const TensorPlan& t) { return t.grid.has_value(); });
  if (found == plan.tensors.end())
    throw Error(ErrorKind::kInternal, "", "a gptq plan without a quantized tensor");
  return *found->grid;
}

// Every key that some loader reads, in both spellings: old readers know only "quant_method" and
// "checkpoint_format". What does not concern inference goes to "meta" (formats_gptq_awq.md 2.2).
Json quantization_config(const quant::Grid& grid, const std::string& checkpoint_format,
                         bool desc_act, const Provenance& provenance) {
  Json meta = {{"quantizer", {provenance.quantizer}}, {"algorithm", provenance.method}};
  if (provenance.method == "gptq") {
    meta["damp_percent"] = provenance.damp_percent;
    meta["static_groups"] = provenance.act_order && !desc_act;
    meta["true_sequential"] = true;
  }
  return {{"bits", grid.bits},
          {"group_size", grid.group_size},
          {"desc_act", desc_act},
          {"sym", grid.offset_kind == OffsetKind::kMiddleCode},
          {"lm_head", false},
          {"method", "gptq"},
          {"quant_method", "gptq"},
          {"format", checkpoint_format},
          {"checkpoint_format", checkpoint_format},
          {"pack_dtype", "int32"},
          {"meta", meta}};
}

// Keys and values of the source in their order; only the quantization is added.
Json config_with(const std::filesystem::path& model_folder, const Json& quantization) {
  const std::filesystem::path path = model_folder / "config.json";
  Json config = Json::parse(io::read_file(path), nullptr, /*allow_exceptions=*/false);
  if (!config.is_object())
    throw Error(ErrorKind::kInput, "", fmt::format("{}: no JSON object", path.string()));
  config["quantization_config"] = quantization;
  return config;
}

template <typename T>
std::span<const std::byte> bytes_of(const T* data, Index count) {
  return std::as_bytes(std::span<const T>(data, static_cast<std::size_t>(count)));
}

// Replacing the folder that is being read would destroy the model.
void refuse_the_source(const std::filesystem::path& target, const std::filesystem::path& source) {
  std::error_code missing;
  if (!std::filesystem::equivalent(target, source, missing)) return;
  throw Error(ErrorKind::kConfig, "",
              fmt::format("{} is the model itself: choose another folder for the gptq export",
                          target.string()));
}

class GptqWriter : public ArtifactWriter {
 public:
  GptqWriter(const ExportPlan& plan, const WriterInputs& inputs)
      : plan_(plan),
        inputs_(inputs),
        intake_(plan_),
        grid_(grid_of(plan_)),
        checkpoint_format_(gptq_checkpoint_format(grid_.offset_kind == OffsetKind::kMiddleCode,
                                                  plan_.request.checkpoint_format)),
        folder_(plan_.request.path, plan_.request.overwrite),
        weights_(folder_.staging(), declarations(plan_, inputs_.checkpoint),
                 plan_.request.max_shard_bytes) {}

  void write(const std::string& tensor_name, const quant::QuantizedMatrix& q) override {
    intake_.accept(tensor_name, q);
    const GptqTensors packed =
        with_context(tensor_name, [&] { return pack_gptq(q, checkpoint_format_ == "gptq_v2"); });
    const std::string module = module_of(tensor_name);
    weights_.write(module + ".qweight", bytes_of(packed.qweight.data(), packed.qweight.size()));
    weights_.write(module + ".qzeros", bytes_of(packed.qzeros.data(), packed.qzeros.size()));
    weights_.write(module + ".scales", bytes_of(packed.scales.data(), packed.scales.size()));
    weights_.write(module + ".g_idx", std::as_bytes(std::span(packed.g_idx)));
    const Index K = q.in_features();
    desc_act_ |= packed.g_idx != quant::consecutive_groups(K, grid_.group_size_for(K));
  }

  void write_dense(const std::string& tensor_name, MatrixView<const float> values) override {
    intake_.accept_dense(tensor_name, values);
    const DType dtype = inputs_.checkpoint.at(tensor_name).dtype;
    const auto count = static_cast<std::size_t>(values.size());
    std::vector<std::byte> bytes(count * size_of(dtype));
    const Matrix<float> packed = Matrix<float>::copy_of(values);
    convert_from_float(packed.data(), dtype, count, bytes.data());
    weights_.write(tensor_name, bytes);
  }

  void finish() override {
    intake_.require_complete();
    for (const TensorPlan* planned : intake_.to_copy()) copy(planned->tensor.name);
    weights_.finish();
    write_settings();
    for (const std::filesystem::path& file : side_files(inputs_.model_folder))
      io::copy_file(file, folder_.staging() / file.filename());
    folder_.commit();
  }

 private:
  void copy(const std::string& tensor_name) {
    const io::TensorRef& source = inputs_.checkpoint.at(tensor_name);
    weights_.write(tensor_name, source.bytes);
    if (source.file != nullptr) source.file->drop(source.bytes);
  }

  void write_settings() const {
    const Json quantization =
        quantization_config(grid_, checkpoint_format_, desc_act_, inputs_.provenance);
    const Json config = config_with(inputs_.model_folder, quantization);
    io::write_file(folder_.staging() / "config.json", config.dump(2) + "\n");
    io::write_file(folder_.staging() / "quantize_config.json", quantization.dump(2) + "\n");
  }

  const ExportPlan plan_;
  const WriterInputs inputs_;
  Intake intake_;
  const quant::Grid grid_;
  const std::string checkpoint_format_;
  bool desc_act_ = false;  // some g_idx is not consecutive
  // In this order: the unfinished weights go before the folder that they are in.
  io::AtomicFolder folder_;
  io::SafetensorsWriter weights_;
};

}  // namespace

std::unique_ptr<ArtifactWriter> open_gptq_writer(const ExportPlan& plan,
                                                 const WriterInputs& inputs) {
  refuse_the_source(plan.request.path, inputs.model_folder);
  return std::make_unique<GptqWriter>(plan, inputs);
}

}  // namespace calque::artifact
