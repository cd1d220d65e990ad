#pragma once

#include <set>
#include <string>

#include "calque/artifact/plan.h"
#include "calque/quant/quantized_matrix.h"

namespace calque::artifact {

// Holds a writer's callers to the plan: every tensor with a grid once, on that grid, of that shape.
// Everything else is Error(kInternal).
class Intake {
 public:
  explicit Intake(const ExportPlan& plan) : plan_(plan) {}

  const TensorPlan& accept(const std::string& tensor_name, const quant::QuantizedMatrix& q);
  void require_complete() const;

 private:
  const ExportPlan& plan_;
  std::set<std::string> accepted_;
};

}  // namespace calque::artifact
