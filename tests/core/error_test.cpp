#include "calque/core/error.h"

#include <gtest/gtest.h>

#include <new>

#include "calque/core/matrix.h"

namespace calque {
namespace {

template <typename Body>
void expect_out_of_memory(const Body& body, const std::string& message) {
  try {
    with_context("model.layers.3", [&] { with_context("q_proj", body); });
    ADD_FAILURE() << "nothing was thrown";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kResource);
    EXPECT_EQ(error.code(), "E304");
    EXPECT_EQ(error.what(), message);
  }
}

// 2^58 floats: more than any processor can address.
TEST(OutOfMemory, OfAMatrixTellsBytesAndPlace) {
  expect_out_of_memory([] { Matrix<float>::uninitialized(Index{1} << 29, Index{1} << 29); },
                       "model.layers.3: q_proj: out of memory: 1152921504606846976 bytes wanted");
}

TEST(OutOfMemory, OfTheStandardLibraryTellsThePlace) {
  expect_out_of_memory([] { throw std::bad_alloc(); }, "model.layers.3: q_proj: out of memory");
}

}  // namespace
}  // namespace calque
