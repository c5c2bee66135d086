"""De-identification (PS3.15): rules, words that name a patient, pseudonyms."""
