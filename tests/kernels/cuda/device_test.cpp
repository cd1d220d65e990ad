#include "kernels/cuda/device.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "calque/core/error.h"
#include "support/samples.h"

namespace calque::cuda {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::HasSubstr;

class DeviceTest : public ::testing::Test {
 protected:
  Exec exec_ = open_exec("cuda:0", 1);
  Session session_{exec_.backend()};
};

TEST(CudaExec, ListsTheDevice) {
  EXPECT_THAT(available_devices(), Contains("cuda:0"));
  ASSERT_EQ(accelerators().size(), 1u);
  EXPECT_EQ(accelerators()[0].name, "cuda:0");
  EXPECT_THAT(accelerators()[0].detail, HasSubstr("compute capability 8.0"));
  EXPECT_EQ(why_no_accelerator(), "");
}

TEST(CudaExec, OpensByNumberAndWithoutOne) {
  EXPECT_EQ(open_exec("cuda").name(), "cuda:0");
  EXPECT_EQ(open_exec("cuda:0").name(), "cuda:0");
  for (const char* name : {"cuda:1", "cuda:-1", "cuda:", "cuda0", "cuda:0x"})
    EXPECT_THROW(open_exec(name), Error) << name;
}

TEST_F(DeviceTest, MatricesGoThereAndBackWithStrides) {
  const Matrix<float> host = test::normal_matrix(7, 13, 1);
  const auto device = DeviceMatrix<float>::from(host.view().cols(2, 9), session_);
  EXPECT_EQ(device.rows(), 7);
  EXPECT_EQ(device.cols(), 9);
  Matrix<float> back(7, 13);
  device.download(back.view().cols(2, 9), session_);
  for (Index r = 0; r < 7; ++r)
    for (Index c = 0; c < 13; ++c) EXPECT_EQ(back(r, c), c < 2 || c >= 11 ? 0.0f : host(r, c));
}

TEST_F(DeviceTest, MatricesMoveAndGiveTheirMemoryBack) {
  const std::uint64_t before = accelerators()[0].free_bytes;
  {
    DeviceMatrix<float> a(10, 20);
    EXPECT_EQ(accelerators()[0].free_bytes, before - 800);
    a.fill_zero(session_);
    DeviceMatrix<float> b = std::move(a);
    EXPECT_EQ(a.data(), nullptr);
    b = DeviceMatrix<float>(3, 5);
    EXPECT_EQ(b.size(), 15);
  }
  EXPECT_EQ(accelerators()[0].free_bytes, before);
}

TEST_F(DeviceTest, AMatrixMayBeEmpty) {
  const Matrix<float> none(0, 5);
  auto device = DeviceMatrix<float>::from(none, session_);
  device.fill_zero(session_);
  Matrix<float> back(0, 5);
  device.download(back, session_);
  EXPECT_EQ(device.size(), 0);
}

TEST_F(DeviceTest, SaysHowMuchMemoryIsMissing) {
  try {
    DeviceMatrix<float>(1 << 16, 1 << 16);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kResource);
    EXPECT_THAT(error.what(), AllOf(HasSubstr("cuda:0: 16.00 GiB wanted"), HasSubstr("free")));
  }
}

TEST_F(DeviceTest, AFailureOfCudaIsToldInItsOwnWords) {
  Matrix<float> host(1, 4);
  try {
    // Both sides are the host's.
    cuda::upload(host.data(), host.data(), 16, 16, 1, session_.stream());
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kInternal);
    EXPECT_THAT(error.what(), HasSubstr("copying to the device: invalid argument"));
  }
}

}  // namespace
}  // namespace calque::cuda
