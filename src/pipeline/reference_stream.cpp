#include "pipeline/reference_stream.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "calque/core/error.h"
#include "calque/kernels/products.h"
#include "pipeline/stopwatch.h"

namespace calque::pipeline {
namespace {

// Rows that are multiplied together: fixed, so that the sums do not depend on how the runner cuts
// its calls.
constexpr Index kBlockRows = 2048;

void widen(const model::ActivationView& rows_TK, Index t, float* out) {
  for (Index k = 0; k < rows_TK.cols(); ++k)
    out[k] = rows_TK.is_bf16() ? to_float(rows_TK.bf16_TK(t, k)) : rows_TK.f32_TK(t, k);
}

bool is_finite(const float* row, Index columns) {
  bool finite = true;
  for (Index k = 0; k < columns; ++k) finite &= row[k] * 0.0f == 0.0f;
  return finite;
}

}  // namespace

// One site: what the original model had there, and how far the sums have come.
class ReferenceStream::Comparison {
 public:
  Comparison(Index tokens, Index channels, const Exec& exec)
      : tokens_(tokens), channels_(channels), exec_(exec) {}

  void record(const model::ActivationView& inputs_TK) {
    if (inputs_TK.is_bf16())
      append(inputs_TK.bf16_TK, original_bf16_TK_);
    else
      append(inputs_TK.f32_TK, original_f32_TK_);
  }

  void compare(const model::ActivationView& inputs_TK) {
    if (compared_ == 0) start();
    for (Index t = 0; t < inputs_TK.rows(); ++t) {
      widen(inputs_TK, t, inputs_BK_.row(pending_));
      widen(original(), compared_++, difference_BK_.row(pending_));
      if (subtract(pending_)) ++pending_;
      if (pending_ == kBlockRows) flush();
    }
  }

  quant::InputShift finish() {
    if (compared_ != recorded_)
      throw Error(ErrorKind::kInternal, "", "the two models saw different numbers of tokens");
    flush();
    return std::move(shift_);
  }

 private:
  // Only when its turn has come: one site's sums are in memory at a time.
  void start() {
    shift_.cross_KK = Matrix<float>(channels_, channels_);
    difference_BK_ = Matrix<float>::uninitialized(kBlockRows, channels_);
    inputs_BK_ = Matrix<float>::uninitialized(kBlockRows, channels_);
  }

  model::ActivationView original() const {
    return {original_f32_TK_.view(), original_bf16_TK_.view()};
  }

  template <typename T>
  void append(MatrixView<const T> rows_TK, Matrix<T>& all_TK) {
    if (all_TK.empty()) all_TK = Matrix<T>::uninitialized(tokens_, rows_TK.cols());
    for (Index t = 0; t < rows_TK.rows(); ++t)
      std::copy_n(rows_TK.row(t), rows_TK.cols(), all_TK.row(recorded_++));
  }

  // difference = original - input; false: a row that is no number in either stream shifts nothing.
  bool subtract(Index row) {
    float* difference = difference_BK_.row(row);
    const float* input = inputs_BK_.row(row);
    double energy = 0;
    for (Index k = 0; k < inputs_BK_.cols(); ++k) {
      difference[k] -= input[k];
      energy += static_cast<double>(difference[k]) * difference[k];
    }
    if (!std::isfinite(energy) || !is_finite(input, inputs_BK_.cols())) return false;
    shift_.energy += energy;
    return true;
  }

  void flush() {
    const Index rows = std::exchange(pending_, 0);
    accumulate_product(std::as_const(difference_BK_).view().rows(0, rows),
                       std::as_const(inputs_BK_).view().rows(0, rows), shift_.cross_KK, exec_);
  }

  Index tokens_, channels_;
  const Exec& exec_;
  Matrix<float> original_f32_TK_;
  Matrix<BFloat16> original_bf16_TK_;
  Index recorded_ = 0, compared_ = 0, pending_ = 0;
  Matrix<float> difference_BK_, inputs_BK_;
  quant::InputShift shift_;
};

class ReferenceStream::Recorder : public model::BlockObserver {
 public:
  explicit Recorder(ReferenceStream& stream) : stream_(stream) {}
  void site_input(const model::SiteSpec& site, const model::ActivationView& inputs_TK) override {
    if (!stream_.is_compared(site)) return;
    std::shared_ptr<Comparison>& comparison = stream_.sites_[site.kind];
    if (!comparison)
      comparison = std::make_shared<Comparison>(stream_.pass_.calibration->token_count(),
                                                site.features(), stream_.pass_.execs.statistics);
    comparison->record(inputs_TK);
  }
  void site_ready(const model::SiteSpec&, model::BlockWeights&) override {}

 private:
  ReferenceStream& stream_;
};

ReferenceStream::ReferenceStream(const Pass& pass) : pass_(pass) {
  const TimedScope timed(pass.stages.forward);
  hidden_ = pass.runner->embed(pass.calibration->ids_BS, pass.calibration->lengths_B,
                               pass.source.weights->load(pass.source.family.embedding.name));
}

void ReferenceStream::run_block(const model::BlockSpec& block, model::BlockWeights& weights) {
  const TimedScope timed(pass_.stages.forward);
  sites_.clear();
  Recorder recorder(*this);
  pass_.runner->run_block(block, weights, *hidden_, &recorder);
}

bool ReferenceStream::is_compared(const model::SiteSpec& site) const {
  return site.expert < 0 && std::any_of(site.readers.begin(), site.readers.end(),
                                        [&](const model::LinearSpec& linear) {
                                          return pass_.plan.at(linear.weight.name).grid.has_value();
                                        });
}

ReferenceStream::Comparison* ReferenceStream::find(const model::SiteSpec& site) {
  const auto found = is_compared(site) ? sites_.find(site.kind) : sites_.end();
  return found == sites_.end() ? nullptr : found->second.get();
}

void ReferenceStream::compare(const model::SiteSpec& site, const model::ActivationView& inputs_TK) {
  if (Comparison* comparison = find(site)) comparison->compare(inputs_TK);
}

std::optional<quant::InputShift> ReferenceStream::take(const model::SiteSpec& site) {
  Comparison* comparison = find(site);
  if (comparison == nullptr) return std::nullopt;
  quant::InputShift shift = comparison->finish();
  sites_.erase(site.kind);
  return shift;
}

}  // namespace calque::pipeline
