#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "calque/calib/collect.h"
#include "calque/core/error.h"
#include "calque/kernels/gram.h"
#include "kernels/cuda/device.h"
#include "support/samples.h"

// Rows that are on the device already. With the same values they must give the sums that rows from
// the host give, which gram_test.cpp checks against the definition.

namespace calque {
namespace {

Exec cuda_exec() { return open_exec("cuda:0", 1); }

template <typename T>
Matrix<T> rounded(const Matrix<float>& values, DType dtype) {
  Matrix<T> result(values.rows(), values.cols());
  convert_from_float(values.data(), dtype, static_cast<std::size_t>(values.size()),
                     reinterpret_cast<std::byte*>(result.data()));
  return result;
}

template <typename T>
Matrix<float> widened(const Matrix<T>& values, DType dtype) {
  Matrix<float> result(values.rows(), values.cols());
  convert_to_float(reinterpret_cast<const std::byte*>(values.data()), dtype,
                   static_cast<std::size_t>(values.size()), result.data());
  return result;
}

template <typename T>
cuda::DeviceMatrix<T> on_device(const Matrix<T>& host, const Exec& exec) {
  const cuda::Session session(exec.backend());
  return cuda::DeviceMatrix<T>::from(host, session);
}

template <typename T>
DeviceRows columns_of(const cuda::DeviceMatrix<T>& matrix, DType dtype, Index first, Index count) {
  return {.data = matrix.data() + first,
          .dtype = dtype,
          .rows = matrix.rows(),
          .cols = count,
          .stride = matrix.cols()};
}

// Columns 3 to 3 + `features` of a wider matrix with a row that is not finite.
template <typename T>
void expect_sums_of_host_rows(DType dtype, Index features) {
  const Exec exec = cuda_exec();
  Matrix<float> values_TK = test::normal_matrix(45, features + 8, 51);
  values_TK(17, 5) = std::numeric_limits<float>::infinity();
  const Matrix<T> stored_TK = rounded<T>(values_TK, dtype);
  const cuda::DeviceMatrix<T> device_TK = on_device(stored_TK, exec);
  GramSum sum(features, exec);
  sum.add(columns_of(device_TK, dtype, 3, features));
  const GramSum::Result result = sum.finish();

  GramSum expected_sum(features, exec);
  const Matrix<float> wide_TK = widened(stored_TK, dtype);
  expected_sum.add(wide_TK.view().cols(3, features));
  const GramSum::Result expected = expected_sum.finish();
  EXPECT_TRUE(test::same_bytes(result.gram_KK, expected.gram_KK));
  EXPECT_EQ(result.magnitude_K, expected.magnitude_K);
  EXPECT_EQ(result.count.rows, 44);
  EXPECT_EQ(result.count.nonfinite_rows, 1);

  Matrix<T> after_TK(device_TK.rows(), device_TK.cols());
  device_TK.download(after_TK, cuda::Session(exec.backend()));
  EXPECT_TRUE(test::same_bytes(after_TK, stored_TK)) << "borrowed rows were written to";
}

TEST(GramOnTheDevice, TakesRowsThatAreThere) {
  for (const Index features : {37, 261}) {
    expect_sums_of_host_rows<float>(DType::kF32, features);
    expect_sums_of_host_rows<BFloat16>(DType::kBF16, features);
    expect_sums_of_host_rows<Half>(DType::kF16, features);
  }
}

TEST(GramOnTheDevice, RefusesRowsOfAnotherType) {
  GramSum sum(3, cuda_exec());
  const DeviceRows rows{.data = &sum, .dtype = DType::kF64, .rows = 1, .cols = 3, .stride = 3};
  try {
    sum.add(rows);
    FAIL();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), ::testing::HasSubstr("not F64"));
  }
}

TEST(GramOnTheDevice, GivesItsMemoryBack) {
  const std::uint64_t before = accelerators()[0].free_bytes;
  const Matrix<float> rows_NK = test::normal_matrix(9, 40, 52);
  {
    GramSum sum(40, cuda_exec());
    sum.add(rows_NK.view());
    EXPECT_LT(accelerators()[0].free_bytes, before);
    const GramSum::Result result = sum.finish();
    gram_energy(rows_NK, result.gram_KK, cuda_exec());
  }
  EXPECT_EQ(accelerators()[0].free_bytes, before);
}

TEST(StatsCollectorOnTheDevice, AddsRowsWhereTheyAre) {
  const Exec exec = cuda_exec();
  const Matrix<float> inputs_TK = test::normal_matrix(33, 19, 53);
  const cuda::DeviceMatrix<float> device_TK = on_device(inputs_TK, exec);
  calib::StatsCollector collector(19, exec);
  collector.add({.device_TK = columns_of(device_TK, DType::kF32, 0, 19)});
  collector.add({.device_TK = columns_of(device_TK, DType::kF32, 0, 19)});
  const quant::InputStats stats = collector.finish();
  EXPECT_EQ(stats.tokens, 66);
  EXPECT_EQ(stats.features(), 19);
  // Twice the same sum of 33 products.
  const Matrix<double> exact = test::gram_in_double(inputs_TK);
  EXPECT_NEAR(stats.gram_KK(2, 2), 2 * exact(2, 2), 35 * 0x1p-24 * 2 * exact(2, 2));
  EXPECT_EQ(collector.finish().tokens, 0);
}

}  // namespace
}  // namespace calque
