#include "calque/forecast/predict_time.h"

#include <algorithm>
#include <cmath>

#include "calque/kernels/gram.h"
#include "calque/kernels/products.h"
#include "calque/forward/block_runner.h"
#include "forecast/stage_costs.h"
#include "calque/core/stopwatch.h"

namespace calque::forecast {
namespace {

constexpr Index kSize = 1024;           // of the plain product's matrices
constexpr double kMeasured = 0.15;      // seconds
constexpr double kOutsideStages = 0.4;  // loading LibTorch, opening files; measured
constexpr double kTooShort = 0.01;      // seconds

bool is_bf16(const std::string& dtype) {
  return forward::compute_dtype_from(dtype) == forward::ComputeDType::kBFloat16;
}

// Values that are no trouble to multiply.
float value_at(Index i) { return static_cast<float>(i % 17 - 8) / 8.0f; }

// Operations a second of `work`, the median of as many runs as fit: what others do on the machine
// counts, a single interruption does not.
template <typename Product>
double rate_of(double operations, double at_least, Product product) {
  product();
  std::vector<double> seconds;
  for (const Stopwatch all; all.seconds() < at_least || seconds.size() < 3;) {
    const Stopwatch watch;
    product();
    seconds.push_back(watch.seconds());
  }
  const auto middle = seconds.begin() + static_cast<std::ptrdiff_t>(seconds.size() / 2);
  std::nth_element(seconds.begin(), middle, seconds.end());
  return operations / *middle;
}

double float32_rate(double at_least, const Exec& exec) {
  Matrix<float> a_NK(kSize, kSize);
  for (Index i = 0; i < a_NK.size(); ++i) a_NK.data()[i] = value_at(i);
  return rate_of(2.0 * kSize * kSize * kSize, at_least, [&] { multiply(a_NK, a_NK, exec); });
}

double bfloat16_rate(double at_least, const Exec& exec) {
  Matrix<BFloat16> rows_TK(2 * kSize, kSize);
  for (Index i = 0; i < rows_TK.size(); ++i) rows_TK.data()[i] = to_bfloat16(value_at(i));
  Matrix<float> gram_KK(kSize, kSize);
  std::vector<double> magnitude_K(kSize);
  return rate_of(1.0 * kSize * (kSize + 1) * 2 * kSize, at_least, [&] {
    accumulate_gram(std::as_const(rows_TK).view(), gram_KK, magnitude_K, exec);
  });
}

double rate_against(Against against, const job::Job& job, const MachineRates& rates) {
  const bool bf16 =
      (against == Against::kForward && is_bf16(job.runtime.forward_dtype)) ||
      (against == Against::kEvaluation && job.evaluate && is_bf16(job.evaluate->dtype));
  return bf16 ? rates.bfloat16 : rates.float32;
}

}  // namespace

record::StageSeconds seconds_of(const Work& work, const job::Job& job, const MachineRates& rates) {
  record::StageSeconds seconds;
  for (const WorkCost& cost : work_costs())
    seconds.*cost.stage +=
        work[cost.kind] * cost.operations / rate_against(cost.against, job, rates);
  return seconds;
}

record::StageSeconds corrected(const record::StageSeconds& predicted, const record::StageSeconds& expected,
                       const record::StageSeconds& measured) {
  record::StageSeconds result = predicted;
  for (const record::NamedStage& stage : record::kStages)
    if (expected.*stage.seconds > 0 && measured.*stage.seconds >= kTooShort)
      result.*stage.seconds *= measured.*stage.seconds / expected.*stage.seconds;
  return result;
}

TimePrediction prediction_of(const record::StageSeconds& stages, std::string from) {
  return {record::sum(stages) + kOutsideStages, std::move(from), stages};
}

MachineRates measure_rates(const job::Job& job, double seconds) {
  const Exec exec = open_exec("cpu", job.runtime.threads);
  const bool bf16 = (job.calibration.given() && is_bf16(job.runtime.forward_dtype)) ||
                    (job.evaluate && is_bf16(job.evaluate->dtype));
  const double each = bf16 ? seconds / 2 : seconds;
  MachineRates rates;
  rates.float32 = rates.bfloat16 = float32_rate(each, exec);
  if (bf16) rates.bfloat16 = bfloat16_rate(each, exec);
  return rates;
}

TimePrediction predict_time(const job::Job& job, const model::FamilySpec& family,
                            const std::vector<formats::ExportPlan>& plans,
                            const MachineRates& rates) {
  return prediction_of(seconds_of(job_work(job, family, plans), job, rates), "estimate");
}

}  // namespace calque::forecast
