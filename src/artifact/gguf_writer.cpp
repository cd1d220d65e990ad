#include <fmt/format.h>

#include <cmath>
#include <cstring>
#include <filesystem>

#include "artifact/formats.h"
#include "artifact/ggml_blocks.h"
#include "artifact/gguf_metadata.h"
#include "artifact/gguf_types.h"
#include "artifact/intake.h"
#include "calque/core/error.h"

namespace calque::artifact {
namespace {

bool has_rope_freqs(const model::FamilySpec& family) {
  return family.config.rope.scaling == model::RopeSpec::Scaling::kLlama3;
}

std::vector<io::GgufTensorDeclaration> declarations(const ExportPlan& plan,
                                                    const model::FamilySpec& family) {
  std::vector<io::GgufTensorDeclaration> result;
  if (has_rope_freqs(family))
    result.push_back({std::string(kRopeFreqs),
                      io::GgmlType::kF32,
                      {static_cast<std::uint64_t>(family.config.head_dim / 2)}});
  for (const TensorPlan& planned : plan.tensors)
    result.push_back({planned.tensor.gguf_name, gguf_written_type(planned.stored_as),
                      ne_of(planned.tensor.shape)});
  return result;
}

DType dtype_of(io::GgmlType type) {
  if (type == io::GgmlType::kF16) return DType::kF16;
  return type == io::GgmlType::kBF16 ? DType::kBF16 : DType::kF32;
}

// binary16 ends at 65504; a BF16 or F32 source may go beyond.
void refuse_overflow(const io::TensorRef& source, const std::vector<float>& values) {
  for (const float value : values)
    if (std::isfinite(value) && !std::isfinite(rounded_to_half(value)))
      throw Error(ErrorKind::kNumerical, "",
                  fmt::format("tensor '{}' holds {}, beyond what F16 can store (65504). Use type "
                              "BF16 or F32.",
                              source.name, value));
}

std::vector<std::byte> cast(const io::TensorRef& source, DType dtype) {
  if (source.dtype == dtype) return {source.bytes.begin(), source.bytes.end()};
  if (!is_floating(source.dtype))
    throw Error(ErrorKind::kInput, "",
                fmt::format("tensor '{}' is {}: GGUF takes floating-point checkpoints only",
                            source.name, name_of(source.dtype)));
  const auto count = static_cast<std::size_t>(source.element_count());
  std::vector<float> values(count);
  convert_to_float(source.bytes.data(), source.dtype, count, values.data());
  if (dtype == DType::kF16) refuse_overflow(source, values);
  std::vector<std::byte> bytes(count * size_of(dtype));
  convert_from_float(values.data(), dtype, count, bytes.data());
  return bytes;
}

std::vector<std::byte> reordered(std::vector<std::byte> rows, RowOrder order) {
  if (order.empty()) return rows;
  const std::size_t row_bytes = rows.size() / order.size();
  std::vector<std::byte> result(rows.size());
  for (std::size_t r = 0; r < order.size(); ++r)
    std::memcpy(result.data() + r * row_bytes,
                rows.data() + static_cast<std::size_t>(order[r]) * row_bytes, row_bytes);
  return result;
}

std::vector<Index> order_of(const model::TensorSpec& tensor) {
  return interleaved_rows(tensor.shape[0], tensor.gguf_permuted_heads);
}

std::vector<std::byte> bytes_of(const Matrix<std::uint8_t>& rows) {
  const auto bytes = std::as_bytes(std::span(rows.data(), static_cast<std::size_t>(rows.size())));
  return {bytes.begin(), bytes.end()};
}

class GgufArtifactWriter : public ArtifactWriter {
 public:
  GgufArtifactWriter(const ExportPlan& plan, const WriterInputs& inputs)
      : plan_(plan),
        inputs_(inputs),
        intake_(plan_),
        file_(plan_.request.path, gguf_metadata(plan_, inputs_),
              declarations(plan_, inputs_.family)) {}

  void write(const std::string& tensor_name, const quant::QuantizedMatrix& q) override {
    const TensorPlan& planned = intake_.accept(tensor_name, q);
    const std::vector<Index> order = order_of(planned.tensor);
    if (planned.grid->block) {
      file_.write(planned.tensor.gguf_name, reordered(bytes_of(q.blocks_NB), order));
      return;
    }
    const BlockCodec* codec = find_block_codec(gguf_written_type(planned.stored_as));
    const std::vector<std::byte> bytes =
        with_context(tensor_name, [&] { return pack_blocks(*codec, q, order); });
    file_.write(planned.tensor.gguf_name, bytes);
  }

  void write_dense(const std::string& tensor_name, MatrixView<const float> values) override {
    const TensorPlan& planned = intake_.accept_dense(tensor_name, values);
    const DType dtype = dtype_of(gguf_written_type(planned.stored_as));
    const auto count = static_cast<std::size_t>(values.size());
    std::vector<std::byte> bytes(count * size_of(dtype));
    const Matrix<float> packed = Matrix<float>::copy_of(values);
    convert_from_float(packed.data(), dtype, count, bytes.data());
    file_.write(planned.tensor.gguf_name, reordered(bytes, order_of(planned.tensor)));
  }

  void finish() override {
    intake_.require_complete();
    if (has_rope_freqs(inputs_.family)) write_rope_freqs();
    for (const TensorPlan* planned : intake_.to_copy()) copy(*planned);
    file_.finish();
  }

 private:
  void write_rope_freqs() {
    const model::ModelConfig& config = inputs_.family.config;
    const std::vector<float> divisors = llama3_divisors(config.rope, config.head_dim);
    file_.write(kRopeFreqs, std::as_bytes(std::span(divisors)));
  }

  void copy(const TensorPlan& planned) {
    const io::TensorRef& source = inputs_.checkpoint.at(planned.tensor.name);
    const DType dtype = dtype_of(gguf_written_type(planned.stored_as));
    file_.write(planned.tensor.gguf_name, reordered(cast(source, dtype), order_of(planned.tensor)));
    if (source.file != nullptr) source.file->drop(source.bytes);
  }

  const ExportPlan plan_;
  const WriterInputs inputs_;
  Intake intake_;
  io::GgufWriter file_;
};

void refuse_existing(const ExportRequest& request) {
  std::error_code missing;
  const std::filesystem::file_status status = std::filesystem::status(request.path, missing);
  if (std::filesystem::is_directory(status))
    throw Error(ErrorKind::kConfig, "",
                fmt::format("{} is a folder: a gguf export is one file, such as {}",
                            request.path.string(), (request.path / "model.gguf").string()));
  if (std::filesystem::exists(status) && !request.overwrite)
    throw Error(ErrorKind::kConfig, "",
                fmt::format("{} exists already. Choose another path, or set overwrite: true.",
                            request.path.string()));
}

}  // namespace

std::unique_ptr<ArtifactWriter> open_gguf_writer(const ExportPlan& plan,
                                                 const WriterInputs& inputs) {
  refuse_existing(plan.request);
  return std::make_unique<GgufArtifactWriter>(plan, inputs);
}

}  // namespace calque::artifact
