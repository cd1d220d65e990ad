#pragma once

#include <cassert>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <type_traits>
#include <utility>

#include "calque/core/memory.h"

namespace calque {

using Index = std::int64_t;

// Borrowed row-major host memory: `rows` x `cols`, row r starting at data + r * stride (stride in
// elements, >= cols). Copying a view copies no elements; the owner must outlive it.
template <typename T>
class MatrixView {
 public:
  MatrixView() = default;
  MatrixView(T* data, Index rows, Index cols) : MatrixView(data, rows, cols, cols) {}
  MatrixView(T* data, Index rows, Index cols, Index stride)
      : data_(data), rows_(rows), cols_(cols), stride_(stride) {}
  // A view of mutable elements is also a view of const ones.
  operator MatrixView<const T>() const requires(!std::is_const_v<T>) {
    return {data_, rows_, cols_, stride_};
  }

  T* data() const { return data_; }
  Index rows() const { return rows_; }
  Index cols() const { return cols_; }
  Index stride() const { return stride_; }
  Index size() const { return rows_ * cols_; }
  bool empty() const { return size() == 0; }

  T* row(Index r) const {
    assert(r >= 0 && r < rows_);
    return data_ + r * stride_;
  }
  std::span<T> row_span(Index r) const { return {row(r), static_cast<std::size_t>(cols_)}; }
  T& operator()(Index r, Index c) const {
    assert(c >= 0 && c < cols_);
    return row(r)[c];
  }
  // Rows [first, first + count).
  MatrixView rows(Index first, Index count) const {
    assert(first >= 0 && first + count <= rows_);
    return {data_ + first * stride_, count, cols_, stride_};
  }
  // Columns [first, first + count).
  MatrixView cols(Index first, Index count) const {
    assert(first >= 0 && first + count <= cols_);
    return {data_ + first, rows_, count, stride_};
  }

 private:
  T* data_ = nullptr;
  Index rows_ = 0;
  Index cols_ = 0;
  Index stride_ = 0;
};

// Owned row-major host memory without gaps (stride == cols), 64-byte aligned. Moves, never copies
// by accident: `clone()` is the only way to duplicate. A moved-from matrix is 0 x 0. Memory that
// cannot be had is Error(kResource, "E304") with the bytes wanted.
template <typename T>
class Matrix {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  Matrix() = default;
  // Zero-filled.
  Matrix(Index rows, Index cols) : Matrix(uninitialized(rows, cols)) {
    for (Index i = 0; i < size(); ++i) data()[i] = T{};
  }
  Matrix(Matrix&& other) noexcept
      : data_(std::move(other.data_)),
        rows_(std::exchange(other.rows_, 0)),
        cols_(std::exchange(other.cols_, 0)) {}
  Matrix& operator=(Matrix&& other) noexcept {
    data_ = std::move(other.data_);
    rows_ = std::exchange(other.rows_, 0);
    cols_ = std::exchange(other.cols_, 0);
    return *this;
  }

  // For callers that write every element before reading one.
  static Matrix uninitialized(Index rows, Index cols) {
    assert(rows >= 0 && cols >= 0);
    Matrix m;
    m.rows_ = rows;
    m.cols_ = cols;
    if (m.size() > 0) {
      const auto bytes = static_cast<std::size_t>(m.size()) * sizeof(T);
      m.data_.reset(static_cast<T*>(allocate_array(bytes)));
    }
    return m;
  }
  static Matrix copy_of(MatrixView<const T> source) {
    Matrix m = uninitialized(source.rows(), source.cols());
    for (Index r = 0; r < source.rows(); ++r)
      for (Index c = 0; c < source.cols(); ++c) m(r, c) = source(r, c);
    return m;
  }
  Matrix clone() const { return copy_of(view()); }

  T* data() { return data_.get(); }
  const T* data() const { return data_.get(); }
  Index rows() const { return rows_; }
  Index cols() const { return cols_; }
  Index size() const { return rows_ * cols_; }
  bool empty() const { return size() == 0; }

  T* row(Index r) { return view().row(r); }
  const T* row(Index r) const { return view().row(r); }
  T& operator()(Index r, Index c) { return view()(r, c); }
  const T& operator()(Index r, Index c) const { return view()(r, c); }

  MatrixView<T> view() { return {data_.get(), rows_, cols_}; }
  MatrixView<const T> view() const { return {data_.get(), rows_, cols_}; }
  operator MatrixView<T>() { return view(); }
  operator MatrixView<const T>() const { return view(); }

 private:
  struct Free {
    void operator()(T* p) const { free_array(p); }
  };
  std::unique_ptr<T[], Free> data_;
  Index rows_ = 0;
  Index cols_ = 0;
};

// Summed in double, row after row.
inline double sum_of_squares(MatrixView<const float> values) {
  double total = 0;
  for (Index r = 0; r < values.rows(); ++r)
    for (const float value : values.row_span(r)) total += static_cast<double>(value) * value;
  return total;
}

}  // namespace calque
