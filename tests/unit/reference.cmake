# The model a second time, in double precision, where finite differences are exact enough to check gradients.
add_library(reference_double STATIC
	${PROJECT_SOURCE_DIR}/trainer/reference/model.c ${PROJECT_SOURCE_DIR}/trainer/reference/kernels.c)
target_compile_definitions(reference_double PRIVATE REFERENCE_DOUBLE)
target_link_libraries(reference_double PUBLIC reference_core)
set_source_files_properties(test_reference_gradient.c PROPERTIES COMPILE_DEFINITIONS REFERENCE_DOUBLE)

holdfast_unit_test(reference_gradient SOURCES test_reference_gradient.c reference_float.c
	LIBS reference_double)
holdfast_unit_test(reference_data SOURCES test_reference_data.c LIBS reference_core)
holdfast_unit_test(reference_state SOURCES test_reference_state.c LIBS reference_core)
holdfast_unit_test(reference_group SOURCES test_reference_group.c LIBS reference_core)
