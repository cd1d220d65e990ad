#include "formats/written_tensors.h"

#include <fmt/format.h>

#include "calque/core/error.h"
#include "calque/formats/writer.h"
#include "formats/messages.h"

namespace calque::formats {
namespace {

[[noreturn]] void refuse_tensor(const std::string& tensor_name, const std::string& reason) {
  throw Error(ErrorKind::kInternal, "", fmt::format("tensor '{}': {}", tensor_name, reason));
}

void require_grid(const TensorPlan& planned, const quant::QuantizedMatrix& q) {
  const std::string& name = planned.tensor.name;
  if (!planned.grid) refuse_tensor(name, "given to the writer, but planned as a copy");
  if (q.grid != *planned.grid)
    refuse_tensor(name, fmt::format("quantized to {}, planned as {}", q.grid.description(),
                                    planned.grid->description()));
}

}  // namespace

void ArtifactWriter::write_kv_peaks(Index /*layer*/, const KvNumbers& /*largest*/) {}

void ArtifactWriter::write_rows(const std::string& tensor_name, Index /*first_row*/,
                                const quant::QuantizedMatrix& /*rows*/) {
  refuse_tensor(tensor_name, "given row by row, but the format takes whole matrices");
}

const TensorPlan& WrittenTensors::accept_rows(const std::string& tensor_name, Index first_row,
                                              const quant::QuantizedMatrix& rows) {
  const TensorPlan& planned = plan_.at(tensor_name);
  require_grid(planned, rows);
  const Index last_row = first_row + rows.out_features();
  const std::vector<Index>& shape = planned.tensor.shape;
  if (rows.in_features() != shape[1] || first_row < 0 || last_row > shape[0])
    refuse_tensor(tensor_name, fmt::format("rows {} to {} of {} inputs, planned as {}", first_row,
                                           last_row, rows.in_features(), shape_text(shape)));
  Index& given = rows_[tensor_name];
  given += rows.out_features();
  if (given > shape[0] || accepted_.count(tensor_name) > 0)
    refuse_tensor(tensor_name, "given to the writer twice");
  if (given == shape[0]) accepted_.insert(tensor_name);
  return planned;
}

const TensorPlan& WrittenTensors::accept(const std::string& tensor_name,
                                         const quant::QuantizedMatrix& q) {
  const TensorPlan& planned = plan_.at(tensor_name);
  require_grid(planned, q);
  const std::vector<Index> shape = {q.out_features(), q.in_features()};
  if (shape != planned.tensor.shape)
    refuse_tensor(tensor_name, fmt::format("has shape {}, planned as {}", shape_text(shape),
                                           shape_text(planned.tensor.shape)));
  if (!accepted_.insert(tensor_name).second)
    refuse_tensor(tensor_name, "given to the writer twice");
  return planned;
}

const TensorPlan& WrittenTensors::accept_dense(const std::string& tensor_name,
                                               MatrixView<const float> values) {
  const TensorPlan& planned = plan_.at(tensor_name);
  if (planned.grid)
    refuse_tensor(tensor_name, "given to the writer unquantized, but planned with a grid");
  if (!planned.is_written())
    refuse_tensor(tensor_name, "changed, but copied with " + planned.kept_in);
  std::vector<Index> shape = planned.tensor.shape;
  if (shape.size() == 1) shape.insert(shape.begin(), 1);
  if (shape != std::vector<Index>{values.rows(), values.cols()})
    refuse_tensor(tensor_name, fmt::format("has shape [{}, {}], planned as {}", values.rows(),
                                           values.cols(), shape_text(planned.tensor.shape)));
  if (!accepted_.insert(tensor_name).second)
    refuse_tensor(tensor_name, "given to the writer twice");
  return planned;
}

const TensorPlan& WrittenTensors::mark_given(const std::string& tensor_name) {
  accepted_.insert(tensor_name);
  return plan_.at(tensor_name);
}

std::vector<const TensorPlan*> WrittenTensors::to_copy() const {
  std::vector<const TensorPlan*> tensors;
  for (const TensorPlan& tensor : plan_.tensors)
    if (!tensor.grid && tensor.is_written() && accepted_.count(tensor.tensor.name) == 0)
      tensors.push_back(&tensor);
  return tensors;
}

void WrittenTensors::require_complete() const {
  for (const TensorPlan& tensor : plan_.tensors)
    if (tensor.grid && accepted_.count(tensor.tensor.name) == 0)
      refuse_tensor(tensor.tensor.name, "never given to the writer");
}

}  // namespace calque::formats
