#include "calque/kernels/gram.h"

#include <fmt/format.h>

#include <utility>

#include "calque/core/error.h"
#include "kernels/checks.h"
#include "kernels/exec_backend.h"
#include "kernels/gram_sums.h"

namespace calque {
namespace {

void check(Index features, MatrixView<float> gram_KK, std::span<double> magnitude_K) {
  expect_shape("accumulate_gram", "gram_KK", gram_KK, features, features);
  expect_length("accumulate_gram", "magnitude_K", magnitude_K.size(), features);
}

// Sums in the host's memory.
class HostSums : public GramSum::Sums {
 public:
  HostSums(Index features, const Exec& exec) : exec_(exec) {
    result_.gram_KK = Matrix<float>(features, features);
    result_.magnitude_K.assign(static_cast<std::size_t>(features), 0.0);
  }
  void add(MatrixView<const float> inputs_TK) override { accumulate(inputs_TK); }
  void add(MatrixView<const BFloat16> inputs_TK) override { accumulate(inputs_TK); }
  void add(const DeviceRows& inputs_TK) override {
    throw Error(ErrorKind::kInternal, "",
                fmt::format("GramSum: rows on cuda:{} were given to sums on {}", inputs_TK.device,
                            exec_.name()));
  }
  GramSum::Result finish() override { return std::move(result_); }

 private:
  template <typename T>
  void accumulate(MatrixView<const T> inputs_TK) {
    const GramCount count = accumulate_gram(inputs_TK, result_.gram_KK, result_.magnitude_K, exec_);
    result_.count.rows += count.rows;
    result_.count.nonfinite_rows += count.nonfinite_rows;
  }

  Exec exec_;
  GramSum::Result result_;
};

// Checks what comes, and keeps the device open as long as sums are on it.
class CheckedSums : public GramSum::Sums {
 public:
  CheckedSums(Index features, const Exec& exec)
      : features_(features),
        exec_(exec),
        sums_(exec.backend().kernels.start_gram(features, exec.backend())) {}
  void add(MatrixView<const float> inputs_TK) override {
    expect_features(inputs_TK.cols());
    sums_->add(inputs_TK);
  }
  void add(MatrixView<const BFloat16> inputs_TK) override {
    expect_features(inputs_TK.cols());
    sums_->add(inputs_TK);
  }
  void add(const DeviceRows& inputs_TK) override {
    expect_features(inputs_TK.cols);
    const std::string device = fmt::format("cuda:{}", inputs_TK.device);
    if (device != exec_.name())
      throw Error(
          ErrorKind::kInternal, "",
          fmt::format("GramSum: rows on {} were given to sums on {}", device, exec_.name()));
    sums_->add(inputs_TK);
  }
  GramSum::Result finish() override { return sums_->finish(); }

 private:
  void expect_features(Index cols) const {
    expect_range("GramSum::add", "features of inputs_TK", cols, features_, features_);
  }

  Index features_;
  Exec exec_;
  std::unique_ptr<GramSum::Sums> sums_;
};

}  // namespace

GramCount accumulate_gram(MatrixView<const float> inputs_TK, MatrixView<float> gram_KK,
                          std::span<double> magnitude_K, const Exec& exec) {
  check(inputs_TK.cols(), gram_KK, magnitude_K);
  const Exec::Backend& backend = exec.backend();
  return backend.kernels.accumulate_gram_f32(inputs_TK, gram_KK, magnitude_K, backend);
}

GramCount accumulate_gram(MatrixView<const BFloat16> inputs_TK, MatrixView<float> gram_KK,
                          std::span<double> magnitude_K, const Exec& exec) {
  check(inputs_TK.cols(), gram_KK, magnitude_K);
  const Exec::Backend& backend = exec.backend();
  return backend.kernels.accumulate_gram_bf16(inputs_TK, gram_KK, magnitude_K, backend);
}

GramSum::GramSum(Index features, const Exec& exec) {
  if (exec.backend().kernels.start_gram == nullptr)
    sums_ = std::make_unique<HostSums>(features, exec);
  else
    sums_ = std::make_unique<CheckedSums>(features, exec);
}
GramSum::~GramSum() = default;
GramSum::GramSum(GramSum&&) noexcept = default;

void GramSum::add(MatrixView<const float> inputs_TK) { sums_->add(inputs_TK); }
void GramSum::add(MatrixView<const BFloat16> inputs_TK) { sums_->add(inputs_TK); }
void GramSum::add(const DeviceRows& inputs_TK) { sums_->add(inputs_TK); }
GramSum::Result GramSum::finish() { return sums_->finish(); }

double gram_energy(MatrixView<const float> rows_NK, MatrixView<const float> gram_KK,
                   const Exec& exec) {
  expect_shape("gram_energy", "gram_KK", gram_KK, rows_NK.cols(), rows_NK.cols());
  return exec.backend().kernels.gram_energy(rows_NK, gram_KK, exec.backend());
}

}  // namespace calque
