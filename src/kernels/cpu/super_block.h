#pragma once

#include <span>

#include "calque/ggml/fields.h"
#include "kernels/cpu/panel.h"

namespace calque::cpu {

// One super-block of a panel's rows while it is refined (refine_blocks.h), turned: row i of the
// first five is column i, row g of the next two group g.
class SuperBlock {
 public:
  // What belongs to the columns of a super-block, whatever the rows.
  struct Curvature {
    MatrixView<const float> hessian;  // its rows and columns of H; empty: H is the identity
    Matrix<float> group_sums;         // of H over the columns of two groups; only with minima
  };
  static Curvature curvature(const GgmlStructure& structure, MatrixView<const float> hessian_KK,
                             Index super);

  explicit SuperBlock(const GgmlStructure& structure);

  // The rows of a panel at its super-block `super`, with their values and residuals (E H there).
  struct Rows {
    GgmlFields& fields;
    Index first, count, super;
    MatrixView<float> values_PS;
    MatrixView<const float> residual_PS;
  };
  void load_rows(const Rows& rows);
  void refine(const Curvature& curvature);
  void store_rows(const Rows& rows) const;

 private:
  // Of a move by a A + b B: its gain is 2 (a ra + b rb) - (a^2 aa + 2 a b ab + b^2 bb).
  struct Moments {
    Floats aa{}, ab{}, bb{}, ra{}, rb{};
    Floats gain(Floats a, Floats b) const;
    // Of the best move; b is 0 without minima.
    Floats best_a(bool with_b) const;
    Floats best_b(Floats a) const;
  };

  PanelGrid grid() const;
  void move_group(const Curvature& curvature, Index g, const PanelGrid& grid);
  void choose_scale_codes(const Curvature& curvature, Index g);
  void choose_integers(const Moments& m, Index g, int s);
  void choose_scale(const Moments& m, Index g, int s);
  void refine_steps(const Curvature& curvature);
  void choose_steps(const Moments& m, int s);
  Moments moments_of_group(const Curvature& curvature, Index g, int s) const;
  Moments moments_of_steps(const Curvature& curvature, int s) const;
  void set_values(Index g);
  void multiply(const Curvature& curvature, Index begin, Index count);
  void subtract_moves(const Curvature& curvature, Index begin);

  Floats scale(Index g, int s) const;
  Floats offset(Index g, int s) const;
  Floats level(Index column, int s) const;

  const GgmlStructure& structure_;
  std::span<const float> table_;
  Matrix<float> values_, codes_, residual_, directions_, curved_;
  Matrix<float> scale_codes_, minimum_codes_;
  Matrix<float> steps_;  // the step, the minimum step
  Matrix<float> moves_;  // of one group
};

}  // namespace calque::cpu
