/*
 * The number type of the model: float in the trainer, double in the test of its gradients.
 *
 * model.c and kernels.c are written once, in terms of `real`.  The test compiles them a second time with
 * REFERENCE_DOUBLE, which also renames their functions, so that both live in one program: the gradients
 * are checked against finite differences in double precision, and the float ones against those.
 */
#ifndef TRAINER_REFERENCE_REAL_H
#define TRAINER_REFERENCE_REAL_H

#include <cblas.h>
#include <math.h>

#ifdef REFERENCE_DOUBLE
typedef double real;
#define REAL_GEMM cblas_dgemm
#define REAL_EXP exp
#define REAL_SQRT sqrt
#define kernels_norm kernels_norm_double
#define kernels_norm_back kernels_norm_back_double
#define kernels_attention kernels_attention_double
#define kernels_attention_back kernels_attention_back_double
#define kernels_bend kernels_bend_double
#define kernels_bend_back kernels_bend_back_double
#define kernels_loss kernels_loss_double
#define model_new model_new_double
#define model_free model_free_double
#define model_start model_start_double
#define model_forward model_forward_double
#define model_backward model_backward_double
#define model_logits model_logits_double
#else
typedef float real;
#define REAL_GEMM cblas_sgemm
#define REAL_EXP expf
#define REAL_SQRT sqrtf
#endif

#endif
