"""The Entity Reconciliation API 0.2, as OpenRefine uses it, for each knowledge base.

https://www.w3.org/community/reports/reconciliation/CG-FINAL-specs-0.2-20230410/
"""
