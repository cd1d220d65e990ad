#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <limits>

#include "calque/core/error.h"
#include "calque/formats/conversion.h"
#include "calque/formats/reader.h"
#include "calque/io/json.h"
#include "calque/quant/column_order.h"
#include "calque/quant/rounder.h"
#include "formats/gguf.h"
#include "formats/gguf_config.h"
#include "formats/gguf_metadata.h"
#include "formats/gguf_tensors.h"
#include "formats/written_tensors.h"

namespace calque::formats {
namespace {

Index stacked(const TensorPlan& planned, const model::FamilySpec& family) {
  return planned.tensor.gguf_expert < 0 ? 0 : family.config.num_experts;
}

// A matrix of one row is a vector in the file. Experts form one tensor of three dimensions,
// declared with the first expert.
std::vector<io::GgufTensorDeclaration> declarations(const ExportPlan& plan,
                                                    const model::FamilySpec& family) {
  std::vector<io::GgufTensorDeclaration> result;
  for (const RopeTensor& tensor : gguf_rope_tensors(family.config))
    result.push_back({std::string(tensor.name), ggml::Type::kF32, {tensor.divisors.size()}});
  for (const TensorPlan& planned : plan.tensors) {
    const model::TensorSpec& tensor = planned.tensor;
    if (tensor.gguf_expert > 0) continue;
    std::vector<std::uint64_t> ne = ne_of(tensor.shape);
    if (ne.size() == 2 && ne[1] == 1) ne.pop_back();
    if (const Index experts = stacked(planned, family); experts > 0)
      ne.push_back(static_cast<std::uint64_t>(experts));
    if (tensor.gguf_rest_rows > 0) {
      ne.back() -= static_cast<std::uint64_t>(tensor.gguf_rest_rows);
      result.push_back({tensor.gguf_rest_name,
                        gguf_written_type(planned.stored_as),
                        {ne.front(), static_cast<std::uint64_t>(tensor.gguf_rest_rows)}});
    }
    result.push_back({tensor.gguf_name, gguf_written_type(planned.stored_as), std::move(ne)});
  }
  return result;
}

// Bytes of the rows that are a tensor of their own.
std::uint64_t rest_bytes(const TensorPlan& planned) {
  const model::TensorSpec& tensor = planned.tensor;
  return planned.bytes / static_cast<std::uint64_t>(tensor.shape[0]) *
         static_cast<std::uint64_t>(tensor.gguf_rest_rows);
}

// The rows of a tensor; a vector is one row.
Matrix<float> values_of(const model::SourceTensor& source, std::span<const std::byte> stored) {
  if (!is_floating(source.dtype))
    throw Error(ErrorKind::kInput, "E169",
                fmt::format("tensor '{}' is {}: GGUF exports need a floating-point checkpoint",
                            source.name, name_of(source.dtype)));
  const Index columns = source.shape.empty() ? 1 : source.shape.back();
  const Index count = source.element_count();
  auto values = Matrix<float>::uninitialized(columns == 0 ? 0 : count / columns, columns);
  convert_to_float(stored.data(), source.dtype, static_cast<std::size_t>(count), values.data());
  return values;
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

std::vector<std::byte> bytes_of(const Matrix<std::uint8_t>& rows) {
  const auto bytes = std::as_bytes(std::span(rows.data(), static_cast<std::size_t>(rows.size())));
  return {bytes.begin(), bytes.end()};
}

// An export owns the names of its shards, even if it is a single file.
std::uint64_t limit_of(const ExportRequest& request) {
  constexpr std::uint64_t kNoLimit = std::numeric_limits<std::uint64_t>::max();
  return request.split_max_bytes > 0 ? request.split_max_bytes : kNoLimit;
}

class GgufArtifactWriter : public ArtifactWriter {
 public:
  GgufArtifactWriter(const ExportPlan& plan, const WriterInputs& inputs)
      : plan_(plan), inputs_(inputs), written_(plan_), file_(open_file(plan_, inputs_)) {
    if (inputs_.kept != nullptr)
      for (const std::string& name : inputs_.kept->tensors) {
        const TensorPlan& planned = written_.mark_given(name);
        file_.mark_written(planned.tensor.gguf_name, planned.bytes - rest_bytes(planned));
        if (planned.tensor.gguf_rest_rows > 0)
          file_.mark_written(planned.tensor.gguf_rest_name, rest_bytes(planned));
      }
  }

  void write(const std::string& tensor_name, const quant::QuantizedMatrix& q) override {
    const TensorPlan& planned = written_.accept(tensor_name, q);
    const std::vector<Index> order = row_order_of(planned.tensor);
    if (planned.grid->block) {
      store(planned, reordered(bytes_of(q.blocks().rows_NB), order));
      return;
    }
    const ggml::Type type = gguf_written_type(planned.stored_as);
    const std::vector<std::byte> bytes =
        with_context(tensor_name, [&] { return pack_rows(type, q, order); });
    store(planned, bytes);
  }

  void write_rows(const std::string& tensor_name, Index first_row,
                  const quant::QuantizedMatrix& rows) override {
    const TensorPlan& planned = written_.accept_rows(tensor_name, first_row, rows);
    const model::TensorSpec& tensor = planned.tensor;
    const auto row_bytes = static_cast<std::uint64_t>(rows.blocks().rows_NB.cols());
    const auto write = [&](Index file_row, Index from, Index count) {
      const std::span bytes(rows.blocks().rows_NB.row(from),
                            static_cast<std::size_t>(count) * row_bytes);
      with_context(tensor_name, [&] {
        write_part(planned, static_cast<std::uint64_t>(file_row) * row_bytes, std::as_bytes(bytes));
      });
    };
    const std::vector<Index> order = row_order_of(tensor);
    if (order.empty()) return write(first_row, 0, rows.out_features());
    for (Index file_row = 0; file_row < std::ssize(order); ++file_row) {
      const Index from = order[static_cast<std::size_t>(file_row)] - first_row;
      if (from >= 0 && from < rows.out_features()) write(file_row, from, 1);
    }
  }

  void write_dense(const std::string& tensor_name, MatrixView<const float> values) override {
    const TensorPlan& planned = written_.accept_dense(tensor_name, values);
    store_values(planned, Matrix<float>::copy_of(values));
  }

  void finish() override {
    written_.require_complete();
    for (const RopeTensor& tensor : gguf_rope_tensors(inputs_.family.config))
      file_.write(tensor.name, std::as_bytes(std::span(tensor.divisors)));
    for (const TensorPlan* planned : written_.to_copy()) copy(*planned);
    file_.finish();
  }

  std::string keep() override { return io::Json(file_.keep()).dump(); }

 private:
  static io::GgufWriter open_file(const ExportPlan& plan, const WriterInputs& inputs) {
    const ExportRequest& request = plan.request;
    if (inputs.kept == nullptr)
      return {request.path, gguf_metadata(plan, inputs), declarations(plan, inputs.family),
              limit_of(request)};
    const auto files = io::parse_json(inputs.kept->notes).get<std::vector<std::string>>();
    return {request.path, gguf_metadata(plan, inputs), declarations(plan, inputs.family),
            limit_of(request), files};
  }

  void copy(const TensorPlan& planned) {
    const model::SourceTensor& source = inputs_.source.at(planned.tensor.name);
    const model::TensorBytes stored = inputs_.source.bytes(planned.tensor.name);
    const ggml::Type type = gguf_written_type(planned.stored_as);
    const model::TensorSpec& tensor = planned.tensor;
    if (!ggml::info_of(type).quantized() && source.element_count() > 0 &&
        row_order_of(tensor).empty() && planned.column_order.empty())
      return copy_in_strips(planned, source, stored);
    model::require_finite(source, stored.get());
    if (ggml::info_of(type).quantized())
      return store(planned,
                   reordered(inputs_.source.mxfp4_blocks(tensor.name), row_order_of(tensor)));
    const DType dtype = ggml::dtype_of(type);
    if (source.dtype != dtype || tensor.gguf_plus_one || tensor.gguf_minus_exp ||
        !planned.column_order.empty())
      return store_values(planned, values_of(source, stored.get()));
    const std::vector<std::byte> same(stored.get().begin(), stored.get().end());
    store(planned, reordered(same, row_order_of(tensor)));
  }

  // Some rows at a time: an embedding's values in fp32 may be gigabytes.
  void copy_in_strips(const TensorPlan& planned, const model::SourceTensor& source,
                      const model::TensorBytes& stored) {
    const Index columns = source.shape.empty() ? 1 : source.shape.back();
    const Index rows = source.element_count() / columns;
    const Index strip = std::max<Index>(1, quant::kRowStripWeights / columns);
    const std::size_t row_bytes = stored.get().size() / static_cast<std::size_t>(rows);
    std::uint64_t written = 0;
    for (Index first = 0; first < rows; first += strip) {
      model::SourceTensor some = source;
      some.shape = {std::min(strip, rows - first), columns};
      const std::size_t from = static_cast<std::size_t>(first) * row_bytes;
      const std::size_t size = static_cast<std::size_t>(some.shape[0]) * row_bytes;
      Matrix<float> values = values_of(some, stored.get().subspan(from, size));
      stored.drop(from, size);
      model::require_finite(source.name, values, first);
      const std::vector<std::byte> bytes = converted(planned, std::move(values));
      with_context(source.name, [&] { write_part(planned, written, bytes); });
      written += bytes.size();
    }
  }

  void store_values(const TensorPlan& planned, Matrix<float> values) {
    const std::vector<std::byte> bytes = converted(planned, std::move(values));
    store(planned, reordered(bytes, row_order_of(planned.tensor)));
  }

  // Rows as the file stores them. 1 + weight is rounded to fp32 here as it would be where the norm
  // is computed.
  static std::vector<std::byte> converted(const TensorPlan& planned, Matrix<float> values) {
    const auto count = static_cast<std::size_t>(values.size());
    if (planned.tensor.gguf_plus_one)
      for (std::size_t i = 0; i < count; ++i) values.data()[i] += 1.0f;
    if (planned.tensor.gguf_minus_exp)
      for (std::size_t i = 0; i < count; ++i) values.data()[i] = -std::exp(values.data()[i]);
    values = quant::reordered(std::move(values), planned.column_order);
    const DType dtype = ggml::dtype_of(gguf_written_type(planned.stored_as));
    std::vector<std::byte> bytes(count * size_of(dtype));
    convert_from_float(values.data(), dtype, count, bytes.data());
    require_stored(planned.tensor.name, values, dtype, bytes, "Use type BF16 or F32");
    return bytes;
  }

  void store(const TensorPlan& planned, std::span<const std::byte> bytes) {
    const model::TensorSpec& tensor = planned.tensor;
    with_context(tensor.name, [&] {
      if (tensor.gguf_expert < 0 && tensor.gguf_rest_rows == 0)
        return file_.write(tensor.gguf_name, bytes);
      write_part(planned, 0, bytes);
    });
  }

  // Bytes of the matrix from `first` on: of one tensor among stacked ones, or of two.
  void write_part(const TensorPlan& planned, std::uint64_t first,
                  std::span<const std::byte> bytes) {
    const model::TensorSpec& tensor = planned.tensor;
    const std::uint64_t slab =
        tensor.gguf_expert < 0 ? 0 : static_cast<std::uint64_t>(tensor.gguf_expert) * planned.bytes;
    const std::uint64_t own = planned.bytes - rest_bytes(planned);
    const std::size_t before = first < own ? std::min<std::uint64_t>(bytes.size(), own - first) : 0;
    if (before > 0) file_.write_part(tensor.gguf_name, slab + first, bytes.first(before));
    if (before < bytes.size())
      file_.write_part(tensor.gguf_rest_name, first + before - own, bytes.subspan(before));
  }

  const ExportPlan plan_;
  const WriterInputs inputs_;
  WrittenTensors written_;
  io::GgufWriter file_;
};

void refuse_existing(const ExportRequest& request) {
  std::error_code missing;
  const std::filesystem::file_status status = std::filesystem::status(request.path, missing);
  if (std::filesystem::is_directory(status))
    throw Error(ErrorKind::kConfig, "E209",
                fmt::format("{} is a folder: a gguf export is one file, such as {}",
                            request.path.string(), (request.path / "model.gguf").string()));
  const std::vector<std::filesystem::path> there = files_at(request);
  if (!there.empty() && !request.overwrite)
    throw Error(ErrorKind::kConfig, "E209",
                fmt::format("{} already exists. Choose another path, or set overwrite: true.",
                            there.front().string()));
}

// Refuses to overwrite the source: weights are read from it until the end.
void refuse_source_file(const ExportRequest& request, const std::filesystem::path& source) {
  std::error_code missing;
  if (!std::filesystem::equivalent(request.path, source, missing)) return;
  throw Error(ErrorKind::kConfig, "E172",
              fmt::format("{} is the model itself: choose another path for the gguf export",
                          request.path.string()));
}

}  // namespace

std::unique_ptr<ArtifactWriter> open_gguf_writer(const ExportPlan& plan,
                                                 const WriterInputs& inputs) {
  if (inputs.kept == nullptr) refuse_existing(plan.request);
  refuse_source_file(plan.request, inputs.model_folder);
  return std::make_unique<GgufArtifactWriter>(plan, inputs);
}

std::vector<PlannedFile> gguf_files(const ExportPlan& plan, const WriterInputs& inputs) {
  std::vector<PlannedFile> files;
  for (const auto& [path, bytes] :
       io::gguf_file_sizes(plan.request.path, gguf_metadata(plan, inputs),
                           declarations(plan, inputs.family), limit_of(plan.request)))
    files.push_back({path.filename().string(), bytes, /*weights=*/true});
  return files;
}

}  // namespace calque::formats
