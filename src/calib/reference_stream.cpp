#include "calque/calib/reference_stream.h"

#include <algorithm>
#include <cmath>
#include <utility>
#include <variant>
#include <vector>

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

// The original model's inputs of one site: rows of all tokens, one after the other, or of those
// that it routes there.
class ReferenceStream::Recording {
 public:
  // `tokens`: of the calibration text; `followed`: other sites have these rows.
  Recording(Index tokens, bool followed, io::ScratchSpace& scratch)
      : all_tokens_(tokens), followed_(followed), scratch_(scratch) {}
  bool followed() const { return followed_; }

  void add(const forward::ActivationView& inputs_TK) {
    const bool routed = !inputs_TK.tokens.empty();
    if (routed || pieces_.empty()) {
      const Index capacity = routed ? inputs_TK.rows() : all_tokens_;
      pieces_.push_back({inputs_TK.is_bf16()
                             ? Rows(std::in_place_index<1>, scratch_, capacity, inputs_TK.cols())
                             : Rows(std::in_place_index<0>, scratch_, capacity, inputs_TK.cols()),
                         {inputs_TK.tokens.begin(), inputs_TK.tokens.end()}});
    }
    Piece& piece = pieces_.back();
    inputs_TK.is_bf16() ? append(inputs_TK.bf16_TK, std::get<1>(piece.rows_TK), piece.filled)
                        : append(inputs_TK.f32_TK, std::get<0>(piece.rows_TK), piece.filled);
  }

  Index rows() const {
    Index sum = 0;
    for (const Piece& piece : pieces_) sum += piece.filled;
    return sum;
  }

  // Copies the token's row, widened to fp32. False if the original did not send it here.
  bool read(Index token, float* out) const {
    const Piece* const piece = piece_of(token);
    if (piece == nullptr) return false;
    const Index row = row_of(token, *piece);
    if (row < 0) return false;
    if (const auto* f32_TK = std::get_if<0>(&piece->rows_TK))
      widen({f32_TK->view(), {}, {}}, row, out);
    else
      widen({{}, std::get<1>(piece->rows_TK).view(), {}}, row, out);
    return true;
  }

  // Tokens from `first` to `last` will not be read soon.
  void release(Index first, Index last) const {
    for (const Piece& piece : pieces_) {
      const bool routed = !piece.tokens.empty();
      if (routed && (piece.tokens.front() > last || piece.tokens.back() < first)) continue;
      const Index from = routed ? 0 : first;
      const Index count = routed ? piece.filled : last - first + 1;
      std::visit([&](const auto& rows_TK) { rows_TK.release_rows(from, count); }, piece.rows_TK);
    }
  }

 private:
  using Rows = std::variant<io::ScratchMatrix<float>, io::ScratchMatrix<BFloat16>>;
  struct Piece {
    Rows rows_TK;
    std::vector<Index> tokens;  // ascending; empty: all
    Index filled = 0;
  };

  template <typename T>
  static void append(MatrixView<const T> rows_TK, const io::ScratchMatrix<T>& all, Index& filled) {
    const Index first = filled;
    for (Index t = 0; t < rows_TK.rows(); ++t)
      std::copy_n(rows_TK.row(t), rows_TK.cols(), all.view().row(filled++));
    all.release_rows(first, rows_TK.rows());
  }

  const Piece* piece_of(Index token) const {
    const auto found = std::partition_point(
        pieces_.begin(), pieces_.end(),
        [&](const Piece& piece) { return !piece.tokens.empty() && piece.tokens.back() < token; });
    return found == pieces_.end() ? nullptr : &*found;
  }
  static Index row_of(Index token, const Piece& piece) {
    if (piece.tokens.empty()) return token < piece.filled ? token : -1;
    const auto found = std::lower_bound(piece.tokens.begin(), piece.tokens.end(), token);
    return *found == token ? found - piece.tokens.begin() : -1;
  }

  Index all_tokens_;
  bool followed_;
  io::ScratchSpace& scratch_;
  std::vector<Piece> pieces_;
};

// The sums of one site, over what the quantized model gives to it.
class ReferenceStream::Comparison {
 public:
  Comparison(const Recording& original, Index channels, const Exec& exec)
      : original_(original),
        exec_(exec),
        difference_BK_(Matrix<float>::uninitialized(kGramRows, channels)),
        inputs_BK_(Matrix<float>::uninitialized(kGramRows, channels)) {
    shift_.cross_KK = Matrix<float>(channels, channels);
  }

  void compare(const forward::ActivationView& inputs_TK) {
    const auto token_of = [&](Index row) {
      return inputs_TK.tokens.empty() ? compared_ + row
                                      : inputs_TK.tokens[static_cast<std::size_t>(row)];
    };
    for (Index t = 0; t < inputs_TK.rows(); ++t) {
      if (!original_.read(token_of(t), difference_BK_.row(pending_))) continue;
      widen(inputs_TK, t, inputs_BK_.row(pending_));
      if (subtract(pending_)) ++pending_;
      if (pending_ == kGramRows) flush();
    }
    if (inputs_TK.rows() > 0) original_.release(token_of(0), token_of(inputs_TK.rows() - 1));
    if (inputs_TK.tokens.empty()) compared_ += inputs_TK.rows();
  }

  quant::InputShift finish() {
    if (compared_ > 0 && compared_ != original_.rows())
      throw Error(ErrorKind::kInternal, "", "the two models saw different numbers of tokens");
    flush();
    return std::move(shift_);
  }

 private:
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

  const Recording& original_;
  const Exec& exec_;
  Index compared_ = 0;  // stays 0 where tokens are routed
  Index pending_ = 0;
  Matrix<float> difference_BK_, inputs_BK_;
  quant::InputShift shift_;
};

class ReferenceStream::Recorder : public forward::BlockObserver {
 public:
  Recorder(ReferenceStream& stream, const model::BlockSpec& block, bool wants_output)
      : stream_(stream), block_(block), wants_output_(wants_output) {}
  void site_input(const model::SiteSpec& site, const forward::ActivationView& inputs_TK) override {
    if (!site.rows_of.empty()) return;
    const auto known = stream_.recordings_.find(Site(site.name, site.expert));
    Recording* recording = known == stream_.recordings_.end() ? start(site) : known->second.get();
    if (recording != nullptr) recording->add(inputs_TK);
  }
  void site_ready(const model::SiteSpec&, model::BlockWeights&) override {}
  bool wants_output() const override { return wants_output_; }

 private:
  Recording* start(const model::SiteSpec& site) {  // null: nothing is compared with its rows
    const bool followed = stream_.has_followers(block_, site);
    if (!followed && !stream_.is_compared(site)) return nullptr;
    auto recording = std::make_unique<Recording>(stream_.inputs_.calibration.token_count(),
                                                 followed, *stream_.inputs_.scratch);
    return (stream_.recordings_[Site(site.name, site.expert)] = std::move(recording)).get();
  }

  ReferenceStream& stream_;
  const model::BlockSpec& block_;
  bool wants_output_;
};

ReferenceStream::ReferenceStream(const Inputs& inputs) : inputs_(with_scratch(inputs)) {
  const TimedScope timed(inputs.forward_seconds);
  hidden_ = forward::embed_tokens(inputs.runner, inputs.weights, inputs.family,
                                  inputs.calibration.ids_BS, inputs.calibration.lengths_B);
}

ReferenceStream::ReferenceStream(const Inputs& inputs, const io::ByteSource& source)
    : inputs_(with_scratch(inputs)),
      hidden_(inputs.runner.load_states(inputs.calibration.lengths_B,
                                        inputs.family.embedding.shape[1], source)) {}

ReferenceStream::~ReferenceStream() = default;

void ReferenceStream::save(const io::ByteSink& sink) const {
  inputs_.runner.save_states(*hidden_, sink);
}

void ReferenceStream::run_block(const model::BlockSpec& block, model::BlockWeights& weights) {
  const TimedScope timed(inputs_.forward_seconds);
  recordings_.clear();
  const std::optional<model::BlockSpec> head = inputs_.family.head_block();
  const bool reads_output = head && is_compared(head->sites.front());
  Recorder recorder(*this, block, !inputs_.family.is_last(block) || reads_output);
  inputs_.runner.run_block(block, weights, *hidden_, &recorder);
}

void ReferenceStream::run_head(const model::BlockSpec& head,
                               MatrixView<const float> final_norm_1H) {
  const TimedScope timed(inputs_.forward_seconds);
  recordings_.clear();
  Recorder recorder(*this, head, false);
  for (Index sequence = 0; sequence < hidden_->sequences(); ++sequence) {
    const Matrix<float> rows_TH = inputs_.runner.head_input(final_norm_1H, *hidden_, sequence);
    recorder.site_input(head.sites.front(), {rows_TH.view(), {}, {}});
  }
}

bool ReferenceStream::is_compared(const model::SiteSpec& site) const {
  return std::any_of(site.readers.begin(), site.readers.end(),
                     [&](const model::LinearSpec& linear) {
                       return inputs_.plan.at(linear.weight.name).grid.has_value();
                     });
}

bool ReferenceStream::has_followers(const model::BlockSpec& block,
                                    const model::SiteSpec& site) const {
  return std::any_of(block.sites.begin(), block.sites.end(), [&](const model::SiteSpec& other) {
    return other.rows_of == site.name && is_compared(other);
  });
}

const ReferenceStream::Recording* ReferenceStream::original_of(const model::SiteSpec& site) const {
  if (!is_compared(site)) return nullptr;
  const auto found = recordings_.find(site.rows_of.empty() ? Site(site.name, site.expert)
                                                           : Site(site.rows_of, -1));
  return found == recordings_.end() ? nullptr : found->second.get();
}

void ReferenceStream::compare(const model::SiteSpec& site,
                              const forward::ActivationView& inputs_TK) {
  if (comparison_ == nullptr) {
    const Recording* const original = original_of(site);
    if (original == nullptr) return;
    comparison_ = std::make_unique<Comparison>(*original, site.features(), inputs_.statistics);
  }
  comparison_->compare(inputs_TK);
}

std::optional<quant::InputShift> ReferenceStream::take(const model::SiteSpec& site) {
  if (comparison_ == nullptr) return std::nullopt;
  quant::InputShift shift = std::exchange(comparison_, nullptr)->finish();
  const auto own = recordings_.find(Site(site.name, site.expert));
  if (own != recordings_.end() && !own->second->followed()) recordings_.erase(own);
  return shift;
}

}  // namespace calque::calib
