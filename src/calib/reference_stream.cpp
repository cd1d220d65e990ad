#include "calque/calib/reference_stream.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "calque/core/error.h"
#include "calque/core/finite.h"
#include "calque/core/stopwatch.h"
#include "calque/forward/token_rows.h"
#include "calque/kernels/products.h"

namespace calque::calib {
namespace {

void widen(const forward::ActivationView& rows_TK, Index t, float* out) {
  for (Index k = 0; k < rows_TK.cols(); ++k)
    out[k] = rows_TK.is_bf16() ? to_float(rows_TK.bf16_TK(t, k)) : rows_TK.f32_TK(t, k);
}

ReferenceStream::Inputs with_scratch(ReferenceStream::Inputs inputs) {
  if (inputs.scratch == nullptr)
    inputs.scratch = std::make_shared<io::ScratchSpace>(0, std::filesystem::path());
  return inputs;
}

}  // namespace

// One site: the original model's inputs there, and the sums so far.
class ReferenceStream::Comparison {
 public:
  Comparison(Index tokens, Index channels, const Exec& exec, io::ScratchSpace& scratch)
      : tokens_(tokens), channels_(channels), exec_(exec), scratch_(scratch) {}

  void record(const forward::ActivationView& inputs_TK) {
    if (inputs_TK.is_bf16())
      append(inputs_TK.bf16_TK, original_bf16_);
    else
      append(inputs_TK.f32_TK, original_f32_);
  }

  void compare(const forward::ActivationView& inputs_TK) {
    if (compared_ == 0) start();
    const Index first = compared_;
    for (Index t = 0; t < inputs_TK.rows(); ++t) {
      widen(inputs_TK, t, inputs_BK_.row(pending_));
      widen(original(), compared_++, difference_BK_.row(pending_));
      if (subtract(pending_)) ++pending_;
      if (pending_ == kGramRows) flush();
    }
    original_f32_.release_rows(first, inputs_TK.rows());
    original_bf16_.release_rows(first, inputs_TK.rows());
  }

  quant::InputShift finish() {
    if (compared_ != recorded_)
      throw Error(ErrorKind::kInternal, "", "the two models saw different numbers of tokens");
    flush();
    return std::move(shift_);
  }

 private:
  // Called when the site's turn comes, so that only one site's sums are in memory at a time.
  void start() {
    shift_.cross_KK = Matrix<float>(channels_, channels_);
    difference_BK_ = Matrix<float>::uninitialized(kGramRows, channels_);
    inputs_BK_ = Matrix<float>::uninitialized(kGramRows, channels_);
  }

  forward::ActivationView original() const {
    return {original_f32_.view(), original_bf16_.view(), {}};
  }

  template <typename T>
  void append(MatrixView<const T> rows_TK, io::ScratchMatrix<T>& all) {
    if (recorded_ == 0) all = io::ScratchMatrix<T>(scratch_, tokens_, rows_TK.cols());
    const Index first = recorded_;
    for (Index t = 0; t < rows_TK.rows(); ++t)
      std::copy_n(rows_TK.row(t), rows_TK.cols(), all.view().row(recorded_++));
    all.release_rows(first, rows_TK.rows());
  }

  // difference = original - input. Returns false for a row that is not finite in either stream;
  // such a row does not count.
  bool subtract(Index row) {
    float* difference = difference_BK_.row(row);
    const float* input = inputs_BK_.row(row);
    double energy = 0;
    for (Index k = 0; k < inputs_BK_.cols(); ++k) {
      difference[k] -= input[k];
      energy += static_cast<double>(difference[k]) * difference[k];
    }
    if (!std::isfinite(energy) || !all_finite<float>(inputs_BK_.view().row_span(row))) return false;
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
  io::ScratchSpace& scratch_;
  io::ScratchMatrix<float> original_f32_;  // only one of the two is used
  io::ScratchMatrix<BFloat16> original_bf16_;
  Index recorded_ = 0, compared_ = 0, pending_ = 0;
  Matrix<float> difference_BK_, inputs_BK_;
  quant::InputShift shift_;
};

class ReferenceStream::Recorder : public forward::BlockObserver {
 public:
  Recorder(ReferenceStream& stream, bool wants_output)
      : stream_(stream), wants_output_(wants_output) {}
  void site_input(const model::SiteSpec& site, const forward::ActivationView& inputs_TK) override {
    if (!stream_.is_compared(site)) return;
    std::shared_ptr<Comparison>& comparison = stream_.sites_[site.name];
    if (!comparison)
      comparison =
          std::make_shared<Comparison>(stream_.inputs_.calibration.token_count(), site.features(),
                                       stream_.inputs_.statistics, *stream_.inputs_.scratch);
    comparison->record(inputs_TK);
  }
  void site_ready(const model::SiteSpec&, model::BlockWeights&) override {}
  bool wants_output() const override { return wants_output_; }

 private:
  ReferenceStream& stream_;
  bool wants_output_;
};

ReferenceStream::ReferenceStream(const Inputs& inputs) : inputs_(with_scratch(inputs)) {
  const TimedScope timed(inputs.forward_seconds);
  hidden_ = forward::embed_tokens(inputs.runner, inputs.weights, inputs.family.embedding,
                                  inputs.calibration.ids_BS, inputs.calibration.lengths_B);
}

ReferenceStream::ReferenceStream(const Inputs& inputs, const io::ByteSource& source)
    : inputs_(with_scratch(inputs)),
      hidden_(inputs.runner.load_states(inputs.calibration.lengths_B,
                                        inputs.family.embedding.shape[1], source)) {}

void ReferenceStream::save(const io::ByteSink& sink) const {
  inputs_.runner.save_states(*hidden_, sink);
}

void ReferenceStream::run_block(const model::BlockSpec& block, model::BlockWeights& weights) {
  const TimedScope timed(inputs_.forward_seconds);
  sites_.clear();
  const std::optional<model::BlockSpec> head = inputs_.family.head_block();
  const bool reads_output = head && is_compared(head->sites.front());
  Recorder recorder(*this, !inputs_.family.is_last(block) || reads_output);
  inputs_.runner.run_block(block, weights, *hidden_, &recorder);
}

void ReferenceStream::run_head(const model::BlockSpec& head,
                               MatrixView<const float> final_norm_1H) {
  const TimedScope timed(inputs_.forward_seconds);
  sites_.clear();
  Recorder recorder(*this, false);
  for (Index sequence = 0; sequence < hidden_->sequences(); ++sequence) {
    const Matrix<float> rows_TH = inputs_.runner.head_input(final_norm_1H, *hidden_, sequence);
    recorder.site_input(head.sites.front(), {rows_TH.view(), {}, {}});
  }
}

bool ReferenceStream::is_compared(const model::SiteSpec& site) const {
  return site.expert < 0 &&
         std::any_of(site.readers.begin(), site.readers.end(),
                     [&](const model::LinearSpec& linear) {
                       return inputs_.plan.at(linear.weight.name).grid.has_value();
                     });
}

ReferenceStream::Comparison* ReferenceStream::find(const model::SiteSpec& site) {
  const auto found = is_compared(site) ? sites_.find(site.name) : sites_.end();
  return found == sites_.end() ? nullptr : found->second.get();
}

void ReferenceStream::compare(const model::SiteSpec& site,
                              const forward::ActivationView& inputs_TK) {
  if (Comparison* comparison = find(site)) comparison->compare(inputs_TK);
}

std::optional<quant::InputShift> ReferenceStream::take(const model::SiteSpec& site) {
  Comparison* comparison = find(site);
  if (comparison == nullptr) return std::nullopt;
  quant::InputShift shift = comparison->finish();
  sites_.erase(site.name);
  return shift;
}

}  // namespace calque::calib
