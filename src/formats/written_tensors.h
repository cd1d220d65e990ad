#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include "calque/formats/plan.h"
#include "calque/quant/quantized_matrix.h"

namespace calque::formats {

// Checks a writer's calls against the plan: every tensor with a grid comes once, on that grid, with
// that shape. Everything else is Error(kInternal).
class WrittenTensors {
 public:
  explicit WrittenTensors(const ExportPlan& plan) : plan_(plan) {}

  const TensorPlan& accept(const std::string& tensor_name, const quant::QuantizedMatrix& q);
  // Some rows of a tensor; it counts as given when all rows have come.
  const TensorPlan& accept_rows(const std::string& tensor_name, Index first_row,
                                const quant::QuantizedMatrix& rows);
  // A changed tensor that the plan copies.
  const TensorPlan& accept_dense(const std::string& tensor_name, MatrixView<const float> values);
  // A tensor that an earlier process wrote.
  const TensorPlan& mark_given(const std::string& tensor_name);
  void require_complete() const;
  // The tensors without a grid that were not given and must be copied.
  std::vector<const TensorPlan*> to_copy() const;

 private:
  const ExportPlan& plan_;
  std::set<std::string> accepted_;
  std::map<std::string, Index> rows_;  // received so far
};

}  // namespace calque::formats
