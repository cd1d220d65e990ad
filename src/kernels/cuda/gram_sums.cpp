// Gram matrices on a GPU: rows come from the host or are there already, the sums stay there.

#include "kernels/gram_sums.h"

#include <algorithm>

#include "calque/core/error.h"
#include "kernels/cuda/gram.h"
#include "kernels/cuda/kernels.h"

namespace calque::cuda {
namespace {

// Inputs enter the sums in blocks of this many rows, counted from the first row of a call.
constexpr Index kBlockRows = 2048;

class DeviceSums : public GramSum::Sums {
 public:
  DeviceSums(Index features, std::shared_ptr<void> device)
      : features_(features), device_(std::move(device)) {
    const Session session = open();
    gram_KK_ = DeviceMatrix<float>(features, features);
    magnitude_K_ = DeviceMatrix<double>(1, features);
    nonfinite_rows_ = DeviceMatrix<unsigned long long>(1, 1);
    gram_KK_.fill_zero(session);
    magnitude_K_.fill_zero(session);
    nonfinite_rows_.fill_zero(session);
  }

  // Further rows are added to these sums.
  void start_from(MatrixView<const float> gram_KK, std::span<const double> magnitude_K) {
    const Session session = open();
    gram_KK_.upload(gram_KK, session);
    magnitude_K_.upload({magnitude_K.data(), 1, features_}, session);
  }

  void add(MatrixView<const float> inputs_TK) override { add_host(inputs_TK); }
  void add(MatrixView<const BFloat16> inputs_TK) override { add_host(inputs_TK); }

  void add(const DeviceRows& inputs_TK) override {
    switch (inputs_TK.dtype) {
      case DType::kF32:
        return add_device<float>(inputs_TK);
      case DType::kBF16:
        return add_device<BFloat16>(inputs_TK);
      case DType::kF16:
        return add_device<Half>(inputs_TK);
      default:
        throw Error(ErrorKind::kInternal, "",
                    "GramSum: rows on a device are F32, BF16 or F16, not " +
                        std::string(name_of(inputs_TK.dtype)));
    }
  }

  GramSum::Result finish() override {
    const Session session = open();
    clear_lower(gram_KK_.view(), session);
    GramSum::Result result;
    result.gram_KK = Matrix<float>::uninitialized(features_, features_);
    gram_KK_.download(result.gram_KK, session);
    result.magnitude_K.resize(static_cast<std::size_t>(features_));
    magnitude_K_.download({result.magnitude_K.data(), 1, features_}, session);
    unsigned long long skipped = 0;
    nonfinite_rows_.download({&skipped, 1, 1}, session);
    result.count.nonfinite_rows = static_cast<Index>(skipped);
    result.count.rows = rows_ - result.count.nonfinite_rows;
    return result;
  }

 private:
  Session open() const { return Session(*static_cast<Device*>(device_.get())); }

  template <typename T>
  void add_host(MatrixView<const T> inputs_TK) {
    const Session session = open();
    for (Index begin = 0; begin < inputs_TK.rows(); begin += kBlockRows) {
      const Index rows = std::min(kBlockRows, inputs_TK.rows() - begin);
      T* const block = room_for<T>(rows);
      const MatrixView<const T> from = inputs_TK.rows(begin, rows);
      upload(block, from.data(), static_cast<std::size_t>(from.stride()) * sizeof(T),
             static_cast<std::size_t>(features_) * sizeof(T), rows, session.stream());
      add_block(static_cast<const T*>(block), features_, rows, session);
    }
  }

  template <typename T>
  void add_device(const DeviceRows& inputs_TK) {
    const Session session = open();
    wait_for(static_cast<cudaStream_t>(inputs_TK.stream), session);
    const T* const data = static_cast<const T*>(inputs_TK.data);
    for (Index begin = 0; begin < inputs_TK.rows; begin += kBlockRows)
      add_block(data + begin * inputs_TK.stride, inputs_TK.stride,
                std::min(kBlockRows, inputs_TK.rows - begin), session);
  }

  template <typename T>
  void add_block(const T* source, Index stride, Index rows, const Session& session) {
    rows_ += rows;
    T* const block = room_for<T>(rows);
    copy_finite_rows<T>({source, rows, features_, stride}, block, nonfinite_rows_.data(), session);
    const DeviceView<const T> clean_TK{block, rows, features_, features_};
    add_magnitudes(clean_TK, magnitude_K_.data(), session);
    add_products(clean_TK, gram_KK_.view(), session);
  }

  // The block's own memory; what it held may be lost.
  template <typename T>
  T* room_for(Index rows) {
    const Index bytes = rows * features_ * static_cast<Index>(sizeof(T));
    if (block_.size() < bytes) {
      block_ = {};
      block_ = DeviceMatrix<std::byte>(1, bytes);
    }
    return reinterpret_cast<T*>(block_.data());
  }

  Index features_;
  std::shared_ptr<void> device_;
  DeviceMatrix<float> gram_KK_;
  DeviceMatrix<double> magnitude_K_;
  DeviceMatrix<unsigned long long> nonfinite_rows_;
  DeviceMatrix<std::byte> block_;
  Index rows_ = 0;
};

template <typename T>
GramCount accumulate(MatrixView<const T> inputs_TK, MatrixView<float> gram_KK,
                     std::span<double> magnitude_K, const Exec::Backend& backend) {
  DeviceSums sums(inputs_TK.cols(), backend.device);
  sums.start_from(gram_KK, magnitude_K);
  sums.add(inputs_TK);
  const GramSum::Result result = sums.finish();
  for (Index i = 0; i < gram_KK.rows(); ++i)
    std::copy(result.gram_KK.row(i) + i, result.gram_KK.row(i) + gram_KK.cols(),
              gram_KK.row(i) + i);
  std::copy(result.magnitude_K.begin(), result.magnitude_K.end(), magnitude_K.begin());
  return result.count;
}

}  // namespace

GramCount accumulate_gram_f32(MatrixView<const float> inputs_TK, MatrixView<float> gram_KK,
                              std::span<double> magnitude_K, const Exec::Backend& backend) {
  return accumulate(inputs_TK, gram_KK, magnitude_K, backend);
}

GramCount accumulate_gram_bf16(MatrixView<const BFloat16> inputs_TK, MatrixView<float> gram_KK,
                               std::span<double> magnitude_K, const Exec::Backend& backend) {
  return accumulate(inputs_TK, gram_KK, magnitude_K, backend);
}

std::unique_ptr<GramSum::Sums> start_gram(Index features, const Exec::Backend& backend) {
  return std::make_unique<DeviceSums>(features, backend.device);
}

}  // namespace calque::cuda
