#pragma once

#include <string>
#include <vector>

#include "formats/refusals.h"
#include "calque/formats/plan.h"
#include "calque/model/family.h"

namespace calque::formats {

// Whether a runtime could load the finished plan (formats_gptq_awq.md, section 5): E141 tensor
// parallel sizes, E142 parts that a runtime fuses, E143 shapes of its kernels, E144 experts, E145
// no promise for this container, E146 widths and groups that it does not load from this container.
void check_requirements(const model::FamilySpec& family, const ExportRequest& request,
                        const std::vector<TensorPlan>& tensors, Refusals& refusals);

// For the checks: the grid that a linear is planned on; null: it stays as it is.
class PlannedGrids {
 public:
  explicit PlannedGrids(const std::vector<TensorPlan>& tensors);
  const quant::Grid* of(const std::string& tensor_name) const;
  const quant::Grid* of(const model::LinearSpec& linear) const { return of(linear.weight.name); }

 private:
  std::vector<const TensorPlan*> quantized_;  // by name
};

// Refusals that differ in the module only, put together: "<before><modules><after>".
class ModuleRefusals {
 public:
  explicit ModuleRefusals(Refusals& refusals) : refusals_(refusals) {}
  ~ModuleRefusals();
  ModuleRefusals(const ModuleRefusals&) = delete;
  ModuleRefusals& operator=(const ModuleRefusals&) = delete;

  void add(const std::string& code, const std::string& before, const std::string& after,
           const model::LinearSpec& linear);

 private:
  struct Entry {
    std::string code;
    std::string before;
    std::string after;
    std::vector<const model::LinearSpec*> linears;
  };
  Refusals& refusals_;
  std::vector<Entry> entries_;
};

// What tensor parallelism and the kernels ask of every rank's matrices.
void check_rank_shapes(const model::FamilySpec& family, const ExportRequest& request,
                       const PlannedGrids& grids, Refusals& refusals);

}  // namespace calque::formats
