#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include "calque/formats/plan.h"
#include "calque/quant/quantized_matrix.h"

namespace calque::formats {

// Holds a writer's callers to the plan: every tensor with a grid once, on that grid, of that shape.
// Everything else is Error(kInternal).
class WrittenTensors {
 public:
  explicit WrittenTensors(const ExportPlan& plan) : plan_(plan) {}

  const TensorPlan& accept(const std::string& tensor_name, const quant::QuantizedMatrix& q);
  // Some of its rows; it counts as given when all have come.
  const TensorPlan& accept_rows(const std::string& tensor_name, Index first_row,
                                const quant::QuantizedMatrix& rows);
  // A changed tensor that the plan copies.
  const TensorPlan& accept_dense(const std::string& tensor_name, MatrixView<const float> values);
  // A tensor that an earlier process gave.
  const TensorPlan& mark_given(const std::string& tensor_name);
  void require_complete() const;
  // The tensors without a grid that were not given: to be copied.
  std::vector<const TensorPlan*> to_copy() const;

 private:
  const ExportPlan& plan_;
  std::set<std::string> accepted_;
  std::map<std::string, Index> rows_;  // that have come so far
};

}  // namespace calque::formats
