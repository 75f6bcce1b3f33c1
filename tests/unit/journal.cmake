# Records of every kind and helpers on files, for the journal's tests.
add_library(journal_samples STATIC samples.c)
target_link_libraries(journal_samples PUBLIC journal_core PRIVATE PkgConfig::ZSTD)

holdfast_unit_test(check SOURCES test_check.c LIBS journal_samples)
holdfast_unit_test(store SOURCES test_store.c LIBS journal_samples)
holdfast_unit_test(query SOURCES test_query.c LIBS journal_samples)
holdfast_unit_test(print SOURCES test_print.c LIBS journal_samples)
set_tests_properties(unit.print PROPERTIES
	ENVIRONMENT HOLDFAST_MAN_JOURNAL=${PROJECT_SOURCE_DIR}/man/holdfast-journal.5)
